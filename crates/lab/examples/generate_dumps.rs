//! Writes the golden data of `crates/rdb`: what real servers answer to DUMP and write to an RDB, for every kind of value.
//!
//! ```text
//! cargo run -p understudy-lab --example generate_dumps -- crates/rdb/tests/golden \
//!     6.2.14=.tools/redis-6.2.14/bin/redis-server … valkey-9.1.2=.tools/valkey-9.1.2/bin/valkey-server
//! ```
//!
//! `dumps.tsv`: version, key, payload in hex. `truth.tsv`: key, type, elements in hex, as the last server told them by
//! commands (LRANGE, HGETALL, XRANGE …), so that a decoder cannot be wrong in the same way everywhere.
//! `<version>.rdb`: the same keys in a file. Uses the standard library only, and every command is fixed: a second run
//! writes the same values.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::{env, fs, thread, time};

/// Far enough away to be alive whenever this is run, and the same each time: 2100-01-01.
const EXPIRY_MS: &str = "4102444800000";

type Failure = Box<dyn std::error::Error>;
type Words = Vec<Vec<u8>>;

fn main() -> Result<(), Failure> {
    let mut args = env::args().skip(1);
    let out = args
        .next()
        .ok_or("give a directory, then version=path of each server")?;
    fs::create_dir_all(&out)?;
    let out = Path::new(&out);
    let (mut dumps, mut truth) = (String::new(), String::new());
    for arg in args {
        let (version, program) = arg.split_once('=').ok_or("a server is version=path")?;
        let mut server = Server::start(program)?;
        truth.clear();
        let mut keys = Vec::new();
        for key in fill(&mut server)? {
            let Reply::Text(payload) = server.call(&words(&["DUMP", &key]))? else {
                continue;
            };
            writeln!(dumps, "{version}\t{key}\t{}", hex(&payload))?;
            let told = server.tell(&key)?;
            writeln!(truth, "{key}\t{told}")?;
            keys.push(key);
        }
        server.call(&words(&["PEXPIREAT", "string:plain", EXPIRY_MS]))?;
        server.call(&words(&["SAVE"]))?;
        fs::copy(
            server.directory.join("dump.rdb"),
            out.join(format!("{version}.rdb")),
        )?;
        println!("{version}: {} keys", keys.len());
    }
    fs::write(out.join("dumps.tsv"), dumps)?;
    fs::write(out.join("truth.tsv"), truth)?;
    Ok(())
}

/// Writes every kind of value and gives the keys, in order. What a server does not know is left out.
fn fill(server: &mut Server) -> Result<Vec<String>, Failure> {
    // Small limits, so that few elements make every encoding. Each server knows some of these names.
    for (name, limit) in [
        ("hash-max-ziplist-entries", "34"),
        ("zset-max-ziplist-entries", "20"),
        ("set-max-listpack-entries", "34"),
        ("list-max-ziplist-size", "10"),
        ("stream-node-max-entries", "20"),
    ] {
        server.call(&words(&["CONFIG", "SET", name, limit]))?;
    }
    let mut keys = Vec::new();
    for (key, commands) in values() {
        let mut refusal = None;
        for command in commands {
            if let Reply::Error(text) = server.call(&command)? {
                refusal = Some(text);
            }
        }
        match refusal {
            None => keys.push(key.to_owned()),
            Some(text) => {
                println!("without {key}: {text}");
                server.call(&words(&["DEL", key]))?;
            }
        }
    }
    // Something in another database, and a library of functions, for the file.
    for command in [
        &["SELECT", "3"][..],
        &["SET", "elsewhere", "x"],
        &["SELECT", "0"],
    ] {
        server.call(&words(command))?;
    }
    server.call(&words(&[
        "FUNCTION",
        "LOAD",
        "#!lua name=mylib\nredis.register_function('f', function() return 1 end)",
    ]))?;
    Ok(keys)
}

/// Keys with the commands that make them.
fn values() -> Vec<(&'static str, Vec<Words>)> {
    let edges: Vec<String> = [
        "0",
        "-1",
        "12",
        "13",
        "127",
        "128",
        "-128",
        "-129",
        "4095",
        "4096",
        "-4096",
        "-4097",
        "32767",
        "32768",
        "-32768",
        "-32769",
        "8388607",
        "8388608",
        "-8388608",
        "-8388609",
        "2147483647",
        "2147483648",
        "-2147483648",
        "-2147483649",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "007",
        "-0",
        "1.5",
        "",
        " 1",
    ]
    .map(String::from)
    .to_vec();
    let lengths: Vec<String> = [1, 62, 63, 64, 65, 252, 253, 254, 255, 256]
        .map(|n| "y".repeat(n))
        .to_vec();
    let numbered = |prefix: &str, count: usize| {
        (0..count)
            .map(|i| format!("{prefix}{i}"))
            .collect::<Vec<_>>()
    };
    let interleaved = |a: Vec<String>, b: Vec<String>| {
        a.into_iter()
            .zip(b)
            .flat_map(|(a, b)| [a, b])
            .collect::<Vec<_>>()
    };
    let one = |words: &[&str], rest: Vec<String>| vec![join(words, rest)];
    let long = "abcdefghij".repeat(500);
    let binary: Vec<u8> = (0..=255).collect();
    let mut out: Vec<(&'static str, Vec<Words>)> = vec![
        (
            "string:plain",
            one(&["SET", "string:plain", "hello"], vec![]),
        ),
        ("string:empty", one(&["SET", "string:empty", ""], vec![])),
        ("string:int8", one(&["SET", "string:int8", "-12"], vec![])),
        (
            "string:int16",
            one(&["SET", "string:int16", "-1234"], vec![]),
        ),
        (
            "string:int32",
            one(&["SET", "string:int32", "123456789"], vec![]),
        ),
        (
            "string:int64",
            one(&["SET", "string:int64", "1234567890123"], vec![]),
        ),
        (
            "string:nearly-int",
            one(&["SET", "string:nearly-int", "007"], vec![]),
        ),
        (
            "string:float",
            one(&["INCRBYFLOAT", "string:float", "3.25"], vec![]),
        ),
        ("string:lzf", one(&["SET", "string:lzf", &long], vec![])),
        (
            "string:binary",
            vec![vec![b"SET".to_vec(), b"string:binary".to_vec(), binary]],
        ),
        (
            "string:bits",
            one(&["SETBIT", "string:bits", "1000", "1"], vec![]),
        ),
        (
            "string:hll",
            one(&["PFADD", "string:hll"], numbered("m", 50)),
        ),
        ("list:edges", one(&["RPUSH", "list:edges"], edges.clone())),
        ("list:lengths", one(&["RPUSH", "list:lengths"], lengths)),
        (
            "list:long",
            one(&["RPUSH", "list:long"], numbered("element-", 45)),
        ),
        (
            "list:huge-element",
            one(
                &["RPUSH", "list:huge-element", "a", &long.repeat(2), "b"],
                vec![],
            ),
        ),
        (
            "set:int16",
            one(&["SADD", "set:int16", "1", "-2", "300"], vec![]),
        ),
        (
            "set:int32",
            one(&["SADD", "set:int32", "1", "-2", "70000"], vec![]),
        ),
        (
            "set:int64",
            one(
                &["SADD", "set:int64", "1", "-2", "9223372036854775807"],
                vec![],
            ),
        ),
        (
            "set:small",
            one(&["SADD", "set:small", "a", "b", "17"], vec![]),
        ),
        ("set:edges", one(&["SADD", "set:edges"], edges.clone())),
        (
            "set:large",
            one(&["SADD", "set:large"], numbered("member-", 40)),
        ),
        (
            "hash:small",
            one(
                &["HSET", "hash:small", "f", "v", "17", "-5", "empty", ""],
                vec![],
            ),
        ),
        (
            "hash:edges",
            one(
                &["HSET", "hash:edges"],
                interleaved(numbered("f", edges.len()), edges),
            ),
        ),
        (
            "hash:large",
            one(
                &["HSET", "hash:large"],
                interleaved(numbered("field-", 40), numbered("value-", 40)),
            ),
        ),
        (
            "hash:long-value",
            one(&["HSET", "hash:long-value", "f", &long], vec![]),
        ),
        (
            "zset:large",
            one(
                &["ZADD", "zset:large"],
                interleaved(numbered("", 40), numbered("member-", 40)),
            ),
        ),
        (
            "zset:geo",
            one(
                &["GEOADD", "zset:geo", "13.361389", "38.115556", "Palermo"],
                vec![],
            ),
        ),
        (
            "stream:empty",
            one(
                &["XGROUP", "CREATE", "stream:empty", "g", "$", "MKSTREAM"],
                vec![],
            ),
        ),
    ];
    let scores: Vec<String> = [
        "inf",
        "-inf",
        "0",
        "-0",
        "0.1",
        "1e300",
        "-1.5",
        "3",
        "17179869184",
        "1e-320",
    ]
    .map(String::from)
    .to_vec();
    out.push((
        "zset:small",
        one(
            &["ZADD", "zset:small"],
            interleaved(scores, numbered("m", 10)),
        ),
    ));
    out.push(("stream:long", long_stream()));
    out.push(("stream:groups", grouped_stream()));
    for (key, fields) in [("hash:expiring-small", 3), ("hash:expiring-large", 40)] {
        let pairs = interleaved(numbered("field-", fields), numbered("value-", fields));
        let expire =
            |at: &str, field: &str| one(&["HPEXPIREAT", key, at, "FIELDS", "1", field], vec![]);
        out.push((
            key,
            [
                one(&["HSET", key], pairs),
                expire(EXPIRY_MS, "field-1"),
                expire("4102444800001", "field-0"),
            ]
            .concat(),
        ));
    }
    out
}

/// Several nodes, entries of the same and of other fields, deleted ones at both ends and in the middle.
fn long_stream() -> Vec<Words> {
    let mut commands = Vec::new();
    for i in 1..=70 {
        let id = format!("{}-{}", 1_600_000_000_000_u64 + i * 7, i % 3);
        let n = i.to_string();
        match i % 10 {
            0 => commands.push(words(&[
                "XADD",
                "stream:long",
                &id,
                "other",
                &n,
                "other",
                "twice",
                "",
                "empty",
            ])),
            _ => commands.push(words(&[
                "XADD",
                "stream:long",
                &id,
                "n",
                &n,
                "text",
                "some text",
            ])),
        }
    }
    for i in [1, 30, 31, 70_u64] {
        commands.push(words(&[
            "XDEL",
            "stream:long",
            &format!("{}-{}", 1_600_000_000_000_u64 + i * 7, i % 3),
        ]));
    }
    commands
}

/// Groups with pending entries whose times and counts are given, so that they are the same on every server.
fn grouped_stream() -> Vec<Words> {
    let key = "stream:groups";
    let mut commands: Vec<Words> = (1..=5)
        .map(|i| words(&["XADD", key, &format!("{i}-1"), "n", &i.to_string()]))
        .collect();
    commands.push(words(&["XGROUP", "CREATE", key, "readers", "0"]));
    commands.push(words(&["XGROUP", "CREATE", key, "idle", "$"]));
    commands.push(words(&[
        "XGROUP",
        "CREATECONSUMER",
        key,
        "readers",
        "nobody",
    ]));
    commands.push(words(&[
        "XREADGROUP",
        "GROUP",
        "readers",
        "alice",
        "COUNT",
        "3",
        "STREAMS",
        key,
        ">",
    ]));
    commands.push(words(&[
        "XREADGROUP",
        "GROUP",
        "readers",
        "bob",
        "COUNT",
        "1",
        "STREAMS",
        key,
        ">",
    ]));
    commands.push(words(&["XACK", key, "readers", "2-1"]));
    for (consumer, id, count) in [
        ("alice", "1-1", "1"),
        ("alice", "3-1", "9"),
        ("bob", "4-1", "2"),
    ] {
        let claim = [
            "XCLAIM",
            key,
            "readers",
            consumer,
            "0",
            id,
            "TIME",
            "1600000000123",
            "RETRYCOUNT",
            count,
        ];
        commands.push(words(&claim));
    }
    commands.push(words(&["XDEL", key, "5-1"]));
    commands
}

fn words(words: &[&str]) -> Words {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn join(first: &[&str], rest: Vec<String>) -> Words {
    words(first)
        .into_iter()
        .chain(rest.into_iter().map(String::into_bytes))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

enum Reply {
    Text(Vec<u8>),
    Array(Vec<Reply>),
    Error(String),
    Null,
}

impl Reply {
    /// Every text in it, in order.
    fn flatten(self, into: &mut Vec<Vec<u8>>) {
        match self {
            Reply::Text(text) => into.push(text),
            Reply::Array(items) => items.into_iter().for_each(|item| item.flatten(into)),
            Reply::Error(_) | Reply::Null => {}
        }
    }
}

struct Server {
    child: Child,
    directory: std::path::PathBuf,
    stream: BufReader<TcpStream>,
}

impl Server {
    fn start(program: &str) -> Result<Server, Failure> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let directory =
            env::temp_dir().join(format!("generate-dumps-{}-{port}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let port_text = port.to_string();
        let child = Command::new(fs::canonicalize(program)?)
            .args([
                "--port",
                &port_text,
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dbfilename",
                "dump.rdb",
                "--dir",
            ])
            .arg(&directory)
            .stdout(Stdio::null())
            .spawn()?;
        for _ in 0..200 {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                return Ok(Server {
                    child,
                    directory,
                    stream: BufReader::new(stream),
                });
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "a tool without a runtime waits for a server to listen"
            )]
            thread::sleep(time::Duration::from_millis(25));
        }
        Err(format!("{program} does not listen").into())
    }

    fn call(&mut self, words: &Words) -> Result<Reply, Failure> {
        let mut out = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            out.extend(format!("${}\r\n", word.len()).into_bytes());
            out.extend(word);
            out.extend(b"\r\n");
        }
        self.stream.get_mut().write_all(&out)?;
        self.reply()
    }

    fn reply(&mut self) -> Result<Reply, Failure> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        let (kind, rest) = text
            .split_at_checked(1)
            .ok_or("the server closed the connection")?;
        Ok(match (kind, rest) {
            ("-", error) => Reply::Error(error.to_owned()),
            ("$" | "*", "-1") => Reply::Null,
            ("$", length) => {
                let mut text = vec![0; length.parse::<usize>()? + 2];
                self.stream.read_exact(&mut text)?;
                text.truncate(text.len() - 2);
                Reply::Text(text)
            }
            ("*", count) => Reply::Array(
                (0..count.parse()?)
                    .map(|_| self.reply())
                    .collect::<Result<_, _>>()?,
            ),
            (_, text) => Reply::Text(text.as_bytes().to_vec()),
        })
    }

    /// A key's type and elements, by the commands that clients use.
    fn tell(&mut self, key: &str) -> Result<String, Failure> {
        let Reply::Text(kind) = self.call(&words(&["TYPE", key]))? else {
            return Err("TYPE gave no type".into());
        };
        let kind = String::from_utf8(kind)?;
        let commands: Vec<Words> = match kind.as_str() {
            "string" => vec![words(&["GET", key])],
            "list" => vec![words(&["LRANGE", key, "0", "-1"])],
            "set" => vec![words(&["SMEMBERS", key])],
            "hash" => vec![words(&["HGETALL", key])],
            "zset" => vec![words(&["ZRANGE", key, "0", "-1", "WITHSCORES"])],
            _ => vec![words(&["XRANGE", key, "-", "+"])],
        };
        let mut elements = Vec::new();
        for command in commands {
            self.call(&command)?.flatten(&mut elements);
        }
        let elements: Vec<String> = elements.iter().map(|element| hex(element)).collect();
        Ok(format!("{kind}\t{}", elements.join(" ")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
