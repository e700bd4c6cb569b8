//! Commands that the proxy answers itself.

use super::*;

#[test]
fn small_talk_is_answered_here_and_in_order() {
    let mut bench = Bench::new(1);
    bench.check("PING", "+PONG\r\n");
    bench.check("ping hello", "$5\r\nhello\r\n");
    bench.check("ECHO x", "$1\r\nx\r\n");
    bench.check("CLIENT SETNAME me\nCLIENT GETNAME", "+OK\r\n$2\r\nme\r\n");
    bench.check(
        "CLIENT SETINFO lib-name x\nCLIENT SETINFO nonsense x",
        "+OK\r\n-ERR Unrecognized option 'nonsense'\r\n",
    );
    assert!(bench.dials.is_empty());
}

#[test]
fn a_local_answer_waits_for_the_replies_before_it() {
    let mut bench = Bench::new(1);
    bench.say("GET a\nPING\nGET b");
    let lane = bench.open();
    assert_eq!(bench.written(lane), "GET a\nGET b");
    assert_eq!(bench.hear(), "");
    bench.reply(lane, "$1\r\nA\r\n$1");
    assert_eq!(bench.hear(), "$1\r\nA\r\n+PONG\r\n");
    bench.reply(lane, "\r\nB\r\n");
    assert_eq!(bench.hear(), "$1\r\nB\r\n");
}

#[test]
fn case_30_inline_commands_and_empty_frames_are_understood() {
    let mut bench = Bench::new(1);
    bench.send_as(bench.client, b"\r\nPING\r\n*0\r\n*-1\r\nSET k \"a b\"\r\n");
    let lane = bench.open();
    assert_eq!(bench.written(lane), "SET k a b");
    assert_eq!(bench.hear(), "+PONG\r\n");
}

#[test]
fn hello_three_and_select_choose_another_lane_after_what_is_in_flight() {
    let mut bench = Bench::new(1);
    bench.say("GET a\nSELECT 3\nGET b");
    let lane = bench.open();
    assert_eq!(bench.written(lane), "GET a");
    assert!(
        bench.dials.is_empty(),
        "the next lane waits for the first reply"
    );
    bench.reply(lane, "$-1\r\n");
    assert_eq!(bench.hear(), "$-1\r\n+OK\r\n");
    assert_eq!(bench.dials.last().map(|dial| dial.db), Some(3));
    let other = bench.open();
    assert_eq!(bench.written(other), "GET b");
    bench.reply(other, "$-1\r\n");
    bench.hear();
    bench.say("HELLO 3\nGET c");
    assert!(bench.hear().starts_with("%7\r\n$6\r\nserver\r\n"));
    assert_eq!(
        bench.dials.last().map(|dial| dial.protocol),
        Some(understudy_resp::Protocol::Resp3)
    );
    let third = bench.open();
    bench.reply(third, "_\r\n");
    assert_eq!(bench.hear(), "_\r\n");
    bench.check("SELECT 16", "-ERR DB index is out of range\r\n");
    bench.check(
        "SELECT x",
        "-ERR value is not an integer or out of range\r\n",
    );
    bench.check("HELLO 4", "-NOPROTO unsupported protocol version\r\n");
    for number in ["+1", "01", "1x", "99999999999999999999"] {
        bench.check(
            &format!("SELECT {number}\nHELLO {number}"),
            "-ERR value is not an integer or out of range\r\n-ERR Protocol version is not an integer or out of range\r\n",
        );
    }
    bench.check(
        "PING a b",
        "-ERR wrong number of arguments for 'ping' command\r\n",
    );
}

#[test]
fn a_pool_with_users_asks_for_them() {
    let user = PoolUser {
        name: "default".into(),
        password: b"sesame".to_vec(),
    };
    let app = PoolUser {
        name: "app".into(),
        password: b"secret".to_vec(),
    };
    let mut bench = Bench::over(
        WorkerSettings::default(),
        table(vec![pool("main", &["s0"], vec![user, app])]),
    );
    bench.check("GET a", "-NOAUTH Authentication required.\r\n");
    bench.check("PING", "-NOAUTH Authentication required.\r\n");
    bench.check(
        "AUTH wrong",
        "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
    );
    assert!(bench.say("HELLO 3") == Took::Continue && bench.hear().starts_with("-NOAUTH HELLO"));
    bench.check("AUTH sesame", "+OK\r\n");
    bench.check("RESET", "+RESET\r\n");
    bench.check("GET a", "-NOAUTH Authentication required.\r\n");
    bench.say("HELLO 2 AUTH app secret SETNAME me");
    assert!(bench.hear().starts_with("*14\r\n"));
    bench.check("CLIENT GETNAME", "$2\r\nme\r\n");
    let mut open = Bench::new(1);
    assert!(
        open.say("AUTH x") == Took::Continue
            && open
                .hear()
                .starts_with("-ERR AUTH <password> called without any password")
    );
}

#[test]
fn quit_answers_and_closes() {
    let mut bench = Bench::new(1);
    bench.say("GET a\nQUIT\nGET b");
    let lane = bench.open();
    assert_eq!(bench.written(lane), "GET a");
    assert!(bench.closed.is_empty());
    bench.reply(lane, "$-1\r\n");
    assert_eq!(bench.hear(), "$-1\r\n+OK\r\n");
    assert_eq!(bench.closed, [(bench.client, CloseReason::Quit)]);
}

#[test]
fn what_is_not_carried_is_refused_by_name_and_the_connection_lives() {
    let mut bench = Bench::new(1);
    for line in [
        "WAIT 1 0",
        "SUBSCRIBE c",
        "MONITOR",
        "CLIENT TRACKING on",
        "CLIENT REPLY off",
    ] {
        bench.say(line);
        let name = line.split(' ').next().unwrap().to_lowercase();
        let reply = bench.hear();
        assert!(
            reply.starts_with(&format!("-ERR understudy does not carry '{name}")),
            "{line}: {reply}"
        );
    }
    bench.check(
        "NONSENSE 1",
        "-ERR unknown command 'NONSENSE', with args beginning with: '1' \r\n",
    );
    bench.check(
        "GET",
        "-ERR wrong number of arguments for 'get' command\r\n",
    );
    bench.check("PING", "+PONG\r\n");
}

#[test]
fn client_ids_of_two_workers_never_meet() {
    let id = |worker: u16| {
        let settings = WorkerSettings {
            worker,
            workers: 2,
            ..WorkerSettings::default()
        };
        let mut bench = Bench::with(1, settings);
        bench.say("CLIENT ID");
        bench.hear()
    };
    assert_ne!(id(0), id(1));
}

#[test]
fn exec_with_arguments_drops_the_transaction() {
    let mut bench = Bench::new(1);
    let aborted = "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n";
    bench.check("EXEC x", aborted);
    bench.check(
        "MULTI\nEXEC x\nEXEC",
        &format!("+OK\r\n{aborted}-ERR EXEC without MULTI\r\n"),
    );
}
