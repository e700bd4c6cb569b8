//! The commands that the admin server answers itself: what any Redis client says before it asks for anything.

use bytes::Bytes;
use understudy_resp::Protocol;

use super::session::{Session, Then};
use crate::value::Value;

const OWN: [(&str, &str); 12] = [
    ("PING", "PING [text]"),
    ("ECHO", "ECHO text"),
    ("AUTH", "AUTH [user] password"),
    ("HELLO", "HELLO [2|3 [AUTH user password] [SETNAME name]]"),
    ("COMMAND", "COMMAND [COUNT|LIST|DOCS]"),
    ("INFO", "INFO [section …]"),
    (
        "CLIENT",
        "CLIENT ID|GETNAME|SETNAME name|SETINFO field value",
    ),
    ("SELECT", "SELECT 0"),
    ("QUIT", "QUIT"),
    ("RESET", "RESET"),
    ("HELP", "HELP"),
    ("READONLY", "READONLY"),
];

const NO_AUTH: &str = "NOAUTH Authentication required.";
const WRONG_PASS: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const SYNTAX: &str = "ERR syntax error";

impl Session {
    /// The answer, where the command is one of ours or its sender has not said who it is.
    pub(super) fn own(&mut self, args: &[Bytes]) -> Option<(Value, Then)> {
        let name = args[0].to_ascii_lowercase();
        let answer = match name.as_slice() {
            b"auth" => self.auth(args),
            b"hello" => self.hello(args),
            b"quit" => return Some((Value::ok(), Then::Close)),
            b"reset" => self.reset(),
            _ if self.user.is_none() => Value::error(NO_AUTH),
            b"ping" => match args {
                [_] => Value::Simple("PONG".to_owned()),
                [_, text] => Value::Bulk(text.clone()),
                _ => wrong_arity("ping"),
            },
            b"echo" => match args {
                [_, text] => Value::Bulk(text.clone()),
                _ => wrong_arity("echo"),
            },
            b"select" => match args {
                [_, db] if db.as_ref() == b"0" => Value::ok(),
                [_, _] => Value::error("ERR DB index is out of range"),
                _ => wrong_arity("select"),
            },
            b"readonly" => Value::ok(),
            b"client" => self.client(args),
            b"command" => self.command(args),
            b"info" => self.info(&args[1..]),
            b"help" => self.help(),
            _ => return None,
        };
        Some((answer, Then::GoOn))
    }

    fn auth(&mut self, args: &[Bytes]) -> Value {
        match args {
            _ if self.server.users.is_empty() && self.user.is_some() => Value::error(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
            ),
            [_, password] => self.log_in(b"default", password),
            [_, user, password] => self.log_in(user, password),
            _ => wrong_arity("auth"),
        }
    }

    /// Compares with every user, so that the time taken tells nothing about which names there are.
    fn log_in(&mut self, user: &[u8], password: &[u8]) -> Value {
        let mut known = None;
        for candidate in &self.server.users {
            let same_name = candidate.name.as_bytes() == user;
            let same_password = candidate.password.matches(password);
            if same_name & same_password {
                known = Some(candidate.name.clone());
            }
        }
        match known {
            Some(name) => {
                self.user = Some(name);
                Value::ok()
            }
            None => {
                tracing::warn!(peer = %self.peer, "refuse an admin login");
                Value::error(WRONG_PASS)
            }
        }
    }

    fn hello(&mut self, args: &[Bytes]) -> Value {
        let protocol = match args.get(1).map(AsRef::as_ref) {
            None => self.protocol,
            Some(b"2") => Protocol::Resp2,
            Some(b"3") => Protocol::Resp3,
            Some(_) => return Value::error("NOPROTO unsupported protocol version"),
        };
        let mut name = None;
        let mut rest = args.get(2..).unwrap_or_default();
        while let Some((option, more)) = rest.split_first() {
            rest = match (option.to_ascii_lowercase().as_slice(), more) {
                (b"auth", [user, password, more @ ..]) => {
                    let answer = match self.server.users.is_empty() {
                        true => Value::ok(),
                        false => self.log_in(user, password),
                    };
                    if answer.as_error().is_some() {
                        return answer;
                    }
                    more
                }
                (b"setname", [chosen, more @ ..]) => {
                    name = Some(String::from_utf8_lossy(chosen).into_owned());
                    more
                }
                _ => return Value::error("ERR Syntax error in HELLO option"),
            };
        }
        if self.user.is_none() {
            return Value::error(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
            );
        }
        self.protocol = protocol;
        if let Some(name) = name {
            self.name = name;
        }
        let version = match protocol {
            Protocol::Resp2 => 2,
            Protocol::Resp3 => 3,
        };
        Value::Map(vec![
            ("server".into(), "understudy".into()),
            ("version".into(), env!("CARGO_PKG_VERSION").into()),
            ("proto".into(), version.into()),
            ("id".into(), Value::Integer(self.id as i64)),
            ("mode".into(), "standalone".into()),
            ("role".into(), "master".into()),
            ("modules".into(), Value::Array(Vec::new())),
        ])
    }

    fn reset(&mut self) -> Value {
        let fresh = Session::new(self.server.clone(), self.id, self.peer.clone());
        self.protocol = fresh.protocol;
        self.name = fresh.name;
        self.user = fresh.user;
        Value::Simple("RESET".to_owned())
    }

    fn client(&mut self, args: &[Bytes]) -> Value {
        let verb = args
            .get(1)
            .map(|verb| verb.to_ascii_lowercase())
            .unwrap_or_default();
        match (verb.as_slice(), args.get(2..).unwrap_or_default()) {
            (b"id", []) => Value::Integer(self.id as i64),
            (b"getname", []) if self.name.is_empty() => Value::Null,
            (b"getname", []) => Value::text(self.name.clone()),
            (b"setname", [name]) if name.iter().all(|byte| (b'!'..=b'~').contains(byte)) => {
                self.name = String::from_utf8_lossy(name).into_owned();
                Value::ok()
            }
            (b"setname", [_]) => Value::error(
                "ERR Client names cannot contain spaces, newlines or special characters.",
            ),
            (b"setinfo", [_, _]) => Value::ok(),
            _ => Value::error(
                "ERR unknown subcommand or wrong number of arguments of CLIENT. Try HELP.",
            ),
        }
    }

    fn command(&self, args: &[Bytes]) -> Value {
        let own = OWN.iter().map(|(name, _)| *name);
        let names: Vec<&str> = own
            .chain(self.server.table.commands.keys().copied())
            .collect();
        let lower = |name: &str| name.to_ascii_lowercase();
        match args.get(1).map(|verb| verb.to_ascii_lowercase()).as_deref() {
            None => Value::Array(
                names
                    .into_iter()
                    .map(|name| {
                        let flags = Value::Array(vec![Value::Simple("admin".to_owned())]);
                        Value::Array(vec![
                            lower(name).into(),
                            Value::Integer(-1),
                            flags,
                            0.into(),
                            0.into(),
                            0.into(),
                        ])
                    })
                    .collect(),
            ),
            Some(b"count") => Value::Integer(names.len() as i64),
            Some(b"list") => {
                Value::Array(names.into_iter().map(|name| lower(name).into()).collect())
            }
            // redis-cli asks for it when it starts, for its hints.
            Some(b"docs") => Value::Map(Vec::new()),
            Some(_) => Value::error(SYNTAX),
        }
    }

    fn info(&self, wanted: &[Bytes]) -> Value {
        let everything = wanted.is_empty()
            || wanted.iter().any(|name| {
                matches!(
                    name.to_ascii_lowercase().as_slice(),
                    b"all" | b"everything" | b"default"
                )
            });
        let shown = |title: &str| {
            everything
                || wanted
                    .iter()
                    .any(|name| name.eq_ignore_ascii_case(title.as_bytes()))
        };
        let mut text = String::new();
        let mut section = |title: &str, fields: Vec<(String, String)>| {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            text.push_str(&format!("# {title}\r\n"));
            for (name, value) in fields {
                text.push_str(&format!("{name}:{value}\r\n"));
            }
        };
        if shown("server") {
            section(
                "Server",
                vec![(
                    "understudy_version".to_owned(),
                    env!("CARGO_PKG_VERSION").to_owned(),
                )],
            );
        }
        for (title, fields) in &self.server.table.sections {
            if shown(title) {
                section(title, fields());
            }
        }
        Value::text(text)
    }

    fn help(&self) -> Value {
        let own = OWN.iter().map(|(_, form)| (*form).to_owned());
        let table = self.server.table.commands.iter();
        let table = table.map(|(name, command)| {
            format!(
                "{name} … -- {} ({name} HELP lists its verbs)",
                command.summary
            )
        });
        Value::Array(table.chain(own).map(Value::Simple).collect())
    }
}

fn wrong_arity(name: &str) -> Value {
    Value::error(format!(
        "ERR wrong number of arguments for '{name}' command"
    ))
}
