//! MULTI, EXEC and DISCARD, and what is queued between them.

use understudy_resp::command::{
    self, Class, CommandSpec, Local, RefuseReason, Transaction as Verb,
};

use super::admit::{Admitted, Command, Entry, Pass, entry_for, no_keys, shown};
use super::counters::LatencyClass;
use super::ids::SessionId;
use super::lane::Expect;
use super::run::Run;
use super::transaction::Transaction;
use super::{Worker, texts};
use crate::route::ShardIndex;

impl Worker {
    pub(super) fn transact(
        &mut self,
        pass: &mut Pass<'_>,
        verb: Verb,
        spec: &'static CommandSpec,
        it: Command<'_>,
    ) -> Admitted {
        let Some(session) = self.session(pass.id) else {
            return Admitted::Next;
        };
        match (verb, &session.transaction) {
            (Verb::Multi, Some(_)) => self.answer(pass, b"-ERR MULTI calls can not be nested\r\n"),
            (Verb::Multi, None) => {
                let watched = session.pinned.as_ref().and_then(|it| it.watch);
                session.transaction = Some(Box::new(Transaction {
                    shard: watched.map(|watch| watch.shard),
                    ..Transaction::default()
                }));
                self.answer(pass, b"+OK\r\n")
            }
            (Verb::Discard, None) => self.answer(pass, b"-ERR DISCARD without MULTI\r\n"),
            (Verb::Watch, Some(_)) => {
                self.answer(pass, b"-ERR WATCH inside MULTI is not allowed\r\n")
            }
            (Verb::Watch, None) => self.watch(pass, spec, it),
            (Verb::Discard, Some(_)) => {
                session.transaction = None;
                self.end_watch(pass.id, pass.now);
                self.answer(pass, b"+OK\r\n")
            }
            (Verb::Exec, None) => self.answer(pass, b"-ERR EXEC without MULTI\r\n"),
            (Verb::Exec, Some(transaction)) if transaction.broken => {
                session.transaction = None;
                self.end_watch(pass.id, pass.now);
                self.answer(pass, texts::EXECABORT)
            }
            (Verb::Exec, Some(transaction)) => {
                let (commands, shard) = (transaction.commands, transaction.shard);
                if let Some(admitted) = self.exec_watched(pass) {
                    return admitted;
                }
                if commands == 0 {
                    self.take_transaction(pass.id);
                    return self.answer(pass, b"*0\r\n");
                }
                self.exec(pass, shard.unwrap_or_default())
            }
        }
    }

    /// EXEC with arguments: servers drop the transaction, if there is one.
    pub(super) fn abort_exec(&mut self, pass: &mut Pass<'_>) -> Admitted {
        self.take_transaction(pass.id);
        self.answer(pass, texts::EXEC_ARITY)
    }

    /// Sends the unit. A closed gate stops the session at EXEC; what is queued waits with it.
    fn exec(&mut self, pass: &mut Pass<'_>, shard: ShardIndex) -> Admitted {
        self.flush(pass);
        let bytes = self
            .session(pass.id)
            .and_then(|it| it.transaction.as_ref())
            .map_or(0, |it| it.frames.len());
        if bytes > self.settings.bulk_threshold {
            return self.exec_whole(pass, shard);
        }
        let lane = match self.entry(pass, shard) {
            Entry::Lane(lane) => lane,
            Entry::Stop(stop) => return Admitted::Stop(stop),
            Entry::Expired => {
                self.take_transaction(pass.id);
                return self.answer_held(pass, shard);
            }
        };
        let Some(transaction) = self.take_transaction(pass.id) else {
            return Admitted::Next;
        };
        let (unit, replies) = transaction.unit();
        let Some(session) = self.session(pass.id) else {
            return Admitted::Next;
        };
        let run = session.push(Run::lane(1));
        let entry = entry_for(
            pass,
            run,
            Expect::Unit { refused: false },
            replies,
            LatencyClass::Transaction,
        );
        self.send(
            lane,
            &unit,
            entry,
            u64::from(transaction.commands),
            pass.now,
        );
        Admitted::Next
    }

    /// Queues a command of an open MULTI. Commands that would block do not inside a transaction, so they may come.
    pub(super) fn queue(
        &mut self,
        pass: &mut Pass<'_>,
        spec: &'static CommandSpec,
        it: Command<'_>,
    ) -> Admitted {
        let refused = || {
            format!(
                "ERR understudy does not carry '{}' inside MULTI",
                shown(spec)
            )
        };
        let shard = match spec.class {
            Class::Forward
            | Class::Split(_)
            | Class::Block
            | Class::Refuse(RefuseReason::Blocking) => {
                match self.shard_of_keys(pass, spec, it.args) {
                    Ok(shard) => shard,
                    Err(text) => return self.refuse(pass, &text),
                }
            }
            Class::Keyless => match self.shard_of_keys(pass, spec, it.args) {
                Ok(None) => return self.refuse(pass, &no_keys(spec)),
                Ok(shard) => shard,
                Err(text) => return self.refuse(pass, &text),
            },
            Class::Broadcast(command::Broadcast::Scan) => return self.refuse(pass, &refused()),
            Class::Broadcast(_) if pass.shards > 1 => return self.refuse(pass, &refused()),
            Class::Broadcast(_)
            | Class::FirstShard
            | Class::Local(Local::Ping | Local::Echo | Local::Unwatch) => None,
            Class::Local(_) => return self.refuse(pass, &refused()),
            Class::Refuse(reason) => return self.refuse(pass, &reason.error_text(&shown(spec))),
            Class::Transaction(_) => return Admitted::Next,
        };
        let frame = pass.data.get(it.at..it.at + it.len).unwrap_or_default();
        let bytes_max = self.settings.transaction_bytes_max;
        let Some(transaction) = self
            .session(pass.id)
            .and_then(|session| session.transaction.as_mut())
        else {
            return Admitted::Next;
        };
        if transaction.broken {
            return self.answer(pass, b"+QUEUED\r\n");
        }
        if transaction.frames.len() + frame.len() > bytes_max {
            transaction.frames = Vec::new();
            return self.refuse(
                pass,
                &format!("ERR a transaction may have {bytes_max} bytes"),
            );
        }
        if !transaction.queue(frame, shard) {
            return self.refuse(pass, &texts::crossslot());
        }
        self.answer(pass, b"+QUEUED\r\n")
    }

    /// A command of an open MULTI was refused: EXEC will be, too.
    pub(super) fn break_transaction(&mut self, id: SessionId) {
        if let Some(transaction) = self
            .session(id)
            .and_then(|session| session.transaction.as_mut())
        {
            transaction.broken = true;
        }
    }

    pub(super) fn take_transaction(&mut self, id: SessionId) -> Option<Box<Transaction>> {
        self.session(id)?.transaction.take()
    }
}
