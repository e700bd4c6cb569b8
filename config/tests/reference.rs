//! What is checked in and written from the table of settings is current: pages, schema, and the example with every setting.

use std::path::PathBuf;
use std::{env, fs};

use understudy_config::{Limits, reference};

/// Compares, or writes with UNDERSTUDY_BLESS=1.
#[track_caller]
fn check(path: &str, expect: &str) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(path);
    if env::var_os("UNDERSTUDY_BLESS").is_some() {
        fs::write(&file, expect).expect("the file can be written");
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == expect,
        "{path} is not current: run UNDERSTUDY_BLESS=1 cargo test -p understudy-config"
    );
}

#[test]
fn the_page_of_settings_is_current() {
    check("docs/config.md", &reference::config_page());
}

#[test]
fn the_page_of_limits_is_current() {
    check("docs/limits.md", &reference::limits_page());
}

#[test]
fn the_schema_is_current() {
    check("config/schema.json", &reference::schema());
}

#[test]
fn the_full_example_shows_every_limit() {
    let example =
        fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/full.yaml"))
            .expect("the example is there");
    for row in Limits::table() {
        assert!(
            example.contains(&format!("\n  {}: {}\n", row.name, row.default)),
            "{}",
            row.name
        );
    }
}
