//! Any arguments whatever: the table answers, and never panics.

use proptest::prelude::*;
use understudy_resp::args::Args;
use understudy_resp::command::{
    CommandSpec, Server, all, data_keys, is_blocking, keys, reaches_unnamed_keys, resolve,
    unknown_part,
};

/// Words that mean something to some command.
fn word() -> impl Strategy<Value = Vec<u8>> {
    let known = vec![
        "KEYS",
        "STREAMS",
        "STORE",
        "STOREDIST",
        "BY",
        "GET",
        "LIMIT",
        "BLOCK",
        "GROUP",
        "COUNT",
        "AUTH",
        "AUTH2",
        "LCS",
        "0",
        "1",
        "2",
        "3",
        "-1",
        "999999999",
        "18446744073709551615",
        "4294967296",
        "",
    ];
    prop_oneof![
        3 => proptest::sample::select(known).prop_map(|it| it.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..12),
    ]
}

fn command() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let names: Vec<&'static CommandSpec> = all()
        .iter()
        .flat_map(|spec| std::iter::once(spec).chain(spec.subcommands))
        .collect();
    (
        proptest::sample::select(names),
        proptest::collection::vec(word(), 0..12),
    )
        .prop_map(|(spec, rest)| {
            let mut args: Vec<Vec<u8>> = spec
                .name
                .split('|')
                .map(|it| it.as_bytes().to_vec())
                .collect();
            args.extend(rest);
            args
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn keys_lie_within_the_arguments(args in command()) {
        match resolve(&args) {
            Ok(spec) => {
                let mut found = vec![7];
                let fits = keys(spec, &args, &mut found);
                prop_assert!(found.iter().all(|&index| index > 0 && index < args.len()), "{found:?} of {}", args.len());
                if fits.is_ok() {
                    prop_assert_eq!(spec.single_key().into_iter().all(|index| found == [index]), true);
                }
                let _ = data_keys(spec, &args, &mut found);
                let _ = (is_blocking(spec, &args), reaches_unnamed_keys(spec, &args));
            }
            Err(error) => prop_assert!(error.error_text(&args).starts_with("ERR ")),
        }
        for server in Server::ALL {
            let _ = unknown_part(server, &args);
        }
    }

    #[test]
    fn nonsense_is_refused_in_one_line(args in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..6)) {
        if let Err(error) = resolve(&args) {
            let text = error.error_text(&args);
            prop_assert!(!text.contains(['\r', '\n']), "{text:?}");
        }
    }

    #[test]
    fn functions_also_bear_arguments_that_fit_another_command(args in command(), other in 0..all().len()) {
        let mut found = Vec::new();
        let spec = &all()[other];
        let _ = keys(spec, &args, &mut found);
        prop_assert!(found.iter().all(|&index| index < args.count()));
    }
}
