//! Commands that the proxy answers by itself: who the client is, and what it selected.

use understudy_resp::Protocol;
use understudy_resp::args::{Args, FrameArgs};
use understudy_resp::command::Local;
use understudy_resp::encode;

use super::admit::{Admitted, Command, Pass};
use super::dirty::CloseReason;
use super::ids::{SessionId, Tick};
use super::{Worker, texts};

/// Longest name that CLIENT SETNAME and SETINFO take.
const NAME_MAX: usize = 256;

impl Worker {
    pub(super) fn answer_here(
        &mut self,
        pass: &mut Pass<'_>,
        local: Local,
        it: Command<'_>,
    ) -> Admitted {
        self.flush(pass);
        self.counters.commands_local += 1;
        let mut out = std::mem::take(&mut self.local);
        out.clear();
        let closes = self.write_answer(pass.id, local, it.args, pass.now.0, &mut out);
        self.answer_now(pass.id, &out);
        if out.capacity() <= super::SPARE_BYTES_MAX {
            self.local = out;
        }
        closes.map_or(Admitted::Next, Admitted::Close)
    }

    fn write_answer(
        &mut self,
        id: SessionId,
        local: Local,
        args: FrameArgs<'_>,
        now: u64,
        out: &mut Vec<u8>,
    ) -> Option<CloseReason> {
        let protocol = self.session(id)?.protocol;
        match local {
            Local::Ping if args.count() > 2 => {
                encode::error(out, "ERR wrong number of arguments for 'ping' command");
            }
            Local::Ping if args.count() > 1 => encode::bulk(out, args.slice(1)),
            Local::Ping => encode::simple(out, "PONG"),
            Local::Echo => encode::bulk(out, args.slice(1)),
            Local::Quit => {
                encode::ok(out);
                return Some(CloseReason::Quit);
            }
            Local::Auth => self.auth(id, args, out),
            Local::Hello => self.hello(id, args, out),
            Local::Select => self.select(id, args.slice(1), out),
            Local::Reset => self.reset(id, out),
            Local::Unwatch => {
                self.end_watch(id, Tick(now));
                encode::ok(out);
            }
            Local::ReadOnly | Local::ReadWrite | Local::ClientCapa => {
                encode::ok(out);
            }
            Local::ClientSetName => self.set_name(id, args.slice(2), out),
            Local::ClientGetName => match self.session(id) {
                Some(session) if !session.name.is_empty() => encode::bulk(out, &session.name),
                _ => encode::null_bulk(out, protocol),
            },
            Local::ClientSetInfo => self.set_info(id, args.slice(2), args.slice(3), out),
            Local::ClientId => encode::integer(
                out,
                self.session(id)
                    .map_or(0, |session| session.client_id.cast_signed()),
            ),
            Local::ClientInfo => {
                let line = self.client_info(id, now);
                encode::verbatim(out, protocol, "txt", line.as_bytes());
            }
        }
        None
    }

    fn auth(&mut self, id: SessionId, args: FrameArgs<'_>, out: &mut Vec<u8>) {
        let (user, password) = match args.count() {
            2 => (&b"default"[..], args.slice(1)),
            3 => (args.slice(1), args.slice(2)),
            _ => return encode::error(out, "ERR syntax error"),
        };
        match self.log_in(id, user, password) {
            Login::Done => encode::ok(out),
            Login::Wrong => out.extend_from_slice(texts::WRONGPASS),
            Login::NoPassword if args.count() == 2 => encode::error(
                out,
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
            ),
            // Redis lets anybody be a `default` user without a password, and nobody else.
            Login::NoPassword if user == b"default" => encode::ok(out),
            Login::NoPassword => out.extend_from_slice(texts::WRONGPASS),
        }
    }

    fn log_in(&mut self, id: SessionId, user: &[u8], password: &[u8]) -> Login {
        let Some(session) = self.sessions.find_mut(id.index, id.generation) else {
            return Login::Wrong;
        };
        let Some(pool) = self.routes.pool(session.pool) else {
            return Login::Wrong;
        };
        if pool.users.is_empty() {
            return Login::NoPassword;
        }
        // All users are compared, so that time does not tell which names exist.
        let mut found = None;
        for candidate in &pool.users {
            if candidate.accepts(user, password) {
                found = Some(candidate.name.clone());
            }
        }
        match found {
            Some(name) => {
                session.user = Some(name);
                Login::Done
            }
            None => Login::Wrong,
        }
    }

    fn hello(&mut self, id: SessionId, args: FrameArgs<'_>, out: &mut Vec<u8>) {
        let wanted = match (args.count(), args.slice(1)) {
            (1, _) => None,
            (_, b"2") => Some(Protocol::Resp2),
            (_, b"3") => Some(Protocol::Resp3),
            (_, text) if integer(text).is_some() => {
                return encode::error(out, "NOPROTO unsupported protocol version");
            }
            _ => {
                return encode::error(
                    out,
                    "ERR Protocol version is not an integer or out of range",
                );
            }
        };
        let (mut at, mut login, mut name) = (2, None, None);
        while at < args.count() {
            let word = args.slice(at);
            if word.eq_ignore_ascii_case(b"AUTH") && at + 2 < args.count() {
                login = Some((args.slice(at + 1), args.slice(at + 2)));
                at += 3;
            } else if word.eq_ignore_ascii_case(b"SETNAME") && at + 1 < args.count() {
                name = Some(args.slice(at + 1));
                at += 2;
            } else {
                let word = String::from_utf8_lossy(word);
                return encode::error(out, &format!("ERR Syntax error in HELLO option '{word}'"));
            }
        }
        if name.is_some_and(|name| !is_name(name)) {
            return encode::error(
                out,
                "ERR Client names cannot contain spaces, newlines or special characters.",
            );
        }
        if let Some((user, password)) = login {
            match self.log_in(id, user, password) {
                Login::Done => {}
                Login::NoPassword if user == b"default" => {}
                Login::NoPassword | Login::Wrong => return out.extend_from_slice(texts::WRONGPASS),
            }
        }
        let version = self.settings.announced_version.clone();
        let Some(session) = self.session(id) else {
            return;
        };
        if session.user.is_none() {
            return encode::error(
                out,
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
            );
        }
        if wanted.is_some_and(|wanted| wanted != session.protocol) && session.watches() {
            return encode::error(out, texts::CHANGE_WHILE_WATCHING);
        }
        if let Some(name) = name {
            session.name = name.to_vec();
        }
        if let Some(wanted) = wanted
            && wanted != session.protocol
        {
            session.protocol = wanted;
            session.stamp = 0; // Another lane: what is in flight comes first.
        }
        let (protocol, client) = (session.protocol, session.client_id);
        encode::map_header(out, protocol, 7);
        for (field, value) in [("server", "redis"), ("version", version.as_str())] {
            encode::bulk(out, field.as_bytes());
            encode::bulk(out, value.as_bytes());
        }
        encode::bulk(out, b"proto");
        encode::integer(out, if protocol == Protocol::Resp3 { 3 } else { 2 });
        encode::bulk(out, b"id");
        encode::integer(out, client.cast_signed());
        for (field, value) in [("mode", "standalone"), ("role", "master")] {
            encode::bulk(out, field.as_bytes());
            encode::bulk(out, value.as_bytes());
        }
        encode::bulk(out, b"modules");
        encode::array_header(out, 0);
    }

    fn select(&mut self, id: SessionId, wanted: &[u8], out: &mut Vec<u8>) {
        let databases = self.settings.databases;
        let wanted = integer(wanted);
        let Some(session) = self.session(id) else {
            return;
        };
        match wanted {
            None => encode::error(out, "ERR value is not an integer or out of range"),
            Some(db) if !(0..i64::from(databases)).contains(&db) => {
                encode::error(out, "ERR DB index is out of range");
            }
            Some(db) if db != i64::from(session.db) && session.watches() => {
                encode::error(out, texts::CHANGE_WHILE_WATCHING);
            }
            Some(db) => {
                if db != i64::from(session.db) {
                    session.db = db as u32;
                    session.stamp = 0; // Another lane: what is in flight comes first.
                }
                encode::ok(out);
            }
        }
    }

    /// As after connecting.
    fn reset(&mut self, id: SessionId, out: &mut Vec<u8>) {
        self.leave_pinned(id);
        let Some(session) = self.sessions.find_mut(id.index, id.generation) else {
            return;
        };
        let open = self
            .routes
            .pool(session.pool)
            .is_some_and(|pool| pool.users.is_empty());
        session.user = open.then(|| "default".to_owned());
        session.transaction = None;
        session.name.clear();
        session.protocol = Protocol::Resp2;
        session.db = 0;
        session.stamp = 0;
        encode::simple(out, "RESET");
    }

    fn set_name(&mut self, id: SessionId, name: &[u8], out: &mut Vec<u8>) {
        if !is_name(name) {
            return encode::error(
                out,
                "ERR Client names cannot contain spaces, newlines or special characters.",
            );
        }
        if let Some(session) = self.session(id) {
            session.name = name.to_vec();
        }
        encode::ok(out);
    }

    fn set_info(&mut self, id: SessionId, what: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let Some(session) = self.session(id) else {
            return;
        };
        let (place, option) = if what.eq_ignore_ascii_case(b"lib-name") {
            (&mut session.library, "lib-name")
        } else if what.eq_ignore_ascii_case(b"lib-ver") {
            (&mut session.library_version, "lib-ver")
        } else {
            let what = String::from_utf8_lossy(what);
            return encode::error(out, &format!("ERR Unrecognized option '{what}'"));
        };
        if !is_name(value) {
            let text =
                format!("ERR {option} cannot contain spaces, newlines or special characters.");
            return encode::error(out, &text);
        }
        value.clone_into(place);
        encode::ok(out);
    }

    fn client_info(&mut self, id: SessionId, now: u64) -> String {
        let Some(session) = self.session(id) else {
            return String::new();
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        format!(
            "id={} addr={} laddr= fd=-1 name={} age={} idle={} flags=N db={} sub=0 psub=0 ssub=0 multi={} watch=0 qbuf={} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem={} tot-mem=0 events=r cmd=client|info user={} redir=-1 resp={} lib-name={} lib-ver={}\n",
            session.client_id,
            session.peer,
            text(&session.name),
            now.saturating_sub(session.opened.0) / 1_000_000,
            now.saturating_sub(session.active.0) / 1_000_000,
            session.db,
            session
                .transaction
                .as_ref()
                .map_or(-1, |transaction| i64::from(transaction.commands)),
            session.input.len(),
            session.kept(),
            session.user.as_deref().unwrap_or_default(),
            if session.protocol == Protocol::Resp3 {
                3
            } else {
                2
            },
            text(&session.library),
            text(&session.library_version),
        )
    }
}

enum Login {
    Done,
    Wrong,
    /// The pool has no users: there is nothing to log in to.
    NoPassword,
}

fn is_name(name: &[u8]) -> bool {
    name.len() <= NAME_MAX && name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// A number as servers read one: neither `+1` nor `01`, nor blanks around it.
fn integer(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}
