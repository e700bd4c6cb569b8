//! Commands that go to several shards: split by their keys, or sent to all.
//!
//! A part is sent only when the gates of all its shards are open, found out in one step: half a command on each side of a
//! switch cannot happen, and a session never waits for a gate with a part of its command already on the way.

use understudy_resp::args::Args;
use understudy_resp::command::{self, Broadcast, CommandSpec, Split};
use understudy_resp::encode;

use super::Worker;
use super::admit::{Admitted, Command, Entry, Pass, entry_for, latency_class, shown};
use super::counters::LatencyClass;
use super::gather::{Combine, CursorWrap, Gather};
use super::ids::LaneId;
use super::lane::Expect;
use super::run::Run;
use crate::route::ShardIndex;

/// One shard's part of a command.
struct Part {
    shard: ShardIndex,
    frame: Vec<u8>,
}

impl Worker {
    /// MGET, MSET, DEL, UNLINK, EXISTS, TOUCH: as it is when its keys share a shard, in parts otherwise.
    pub(super) fn split(
        &mut self,
        pass: &mut Pass<'_>,
        spec: &'static CommandSpec,
        split: Split,
        it: Command<'_>,
    ) -> Admitted {
        let args = it.args;
        if split == Split::Mset && args.count().is_multiple_of(2) {
            return self.refuse(
                pass,
                &format!(
                    "ERR wrong number of arguments for '{}' command",
                    shown(spec)
                ),
            );
        }
        if pass.shards == 1 {
            return self.forward(pass, ShardIndex(0), latency_class(spec), it.at, it.len);
        }
        let mut keys = std::mem::take(&mut self.keys);
        let found = command::keys(spec, args, &mut keys);
        // Per shard, in order of first appearance: which keys. Per key: its place there.
        let mut groups: Vec<(ShardIndex, Vec<usize>)> = Vec::new();
        let mut places: Vec<(u16, u32)> = Vec::with_capacity(keys.len());
        for key in &keys {
            let shard = self.shard_of(pass, args.slice(*key));
            let group = groups
                .iter()
                .position(|group| group.0 == shard)
                .unwrap_or_else(|| {
                    groups.push((shard, Vec::new()));
                    groups.len() - 1
                });
            if let Some((_, members)) = groups.get_mut(group) {
                places.push((group as u16, members.len() as u32));
                members.push(*key);
            }
        }
        self.keys = keys;
        if let Err(error) = found {
            return self.refuse(pass, &format!("ERR {error}"));
        }
        if let [(shard, _)] = groups.as_slice() {
            return self.forward(pass, *shard, latency_class(spec), it.at, it.len);
        }
        let parts = groups.iter().map(|(shard, members)| {
            let mut part: Vec<&[u8]> = vec![args.slice(0)];
            for key in members {
                part.push(args.slice(*key));
                if split == Split::Mset {
                    part.push(args.slice(key + 1));
                }
            }
            let mut frame = Vec::new();
            encode::command(&mut frame, &part);
            Part {
                shard: *shard,
                frame,
            }
        });
        let combine = match split {
            Split::Mget => Combine::Elements(places),
            Split::Mset => Combine::First,
            Split::Sum => Combine::Sum,
        };
        let parts: Vec<Part> = parts.collect();
        self.spread(pass, combine, &parts)
    }

    /// Commands without keys that speak of all data of a pool.
    pub(super) fn broadcast(
        &mut self,
        pass: &mut Pass<'_>,
        spec: &'static CommandSpec,
        broadcast: Broadcast,
        it: Command<'_>,
    ) -> Admitted {
        if broadcast == Broadcast::Scan {
            return self.scan(pass, it);
        }
        let frame = pass.data.get(it.at..it.at + it.len).unwrap_or_default();
        let parts: Vec<Part> = (0..pass.shards)
            .map(|shard| Part {
                shard: ShardIndex(shard as u16),
                frame: frame.to_vec(),
            })
            .collect();
        let combine = match broadcast {
            Broadcast::Sum => Combine::Sum,
            Broadcast::AllOk | Broadcast::FirstReply | Broadcast::Scan => Combine::First,
            Broadcast::EachMinimum => Combine::Every,
            Broadcast::Concat => Combine::Join,
            Broadcast::AnyValue => {
                Combine::AnyValue(self.next_random() as usize % pass.shards.max(1))
            }
        };
        let admitted = if let [part] = parts.as_slice() {
            self.forward(pass, part.shard, latency_class(spec), it.at, it.len)
        } else {
            self.spread(pass, combine, &parts)
        };
        if matches!(admitted, Admitted::Next)
            && let Some(pool) = self.pools.get_mut(usize::from(pass.pool.0))
        {
            match spec.name {
                "script|load" => pool.scripts.remember(
                    it.args.slice(2),
                    self.settings.scripts_max,
                    self.settings.script_bytes_max,
                ),
                "script|flush" => pool.scripts.clear(),
                _ => {}
            }
        }
        admitted
    }

    /// SCAN: one shard at a time. The client's cursor carries shard and epoch besides the server's cursor.
    fn scan(&mut self, pass: &mut Pass<'_>, it: Command<'_>) -> Admitted {
        let Some(cursor) = std::str::from_utf8(it.args.slice(1))
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
        else {
            return self.refuse(pass, "ERR invalid cursor");
        };
        let shards = pass.shards.max(1) as u64;
        let shard = ShardIndex(CursorWrap::shard_of(cursor, shards) as u16);
        let epoch = self
            .shard_mut(pass.pool, shard)
            .map_or(0, |shard| shard.gate.epoch);
        let wrap = CursorWrap {
            shard: u64::from(shard.0),
            shards,
            epoch,
        };
        let own = wrap.unwrap(cursor).to_string();
        let mut args: Vec<&[u8]> = (0..it.args.count()).map(|at| it.args.slice(at)).collect();
        args[1] = own.as_bytes();
        let mut frame = Vec::new();
        encode::command(&mut frame, &args);
        self.spread(pass, Combine::Cursor(wrap), &[Part { shard, frame }])
    }

    /// Sends all parts, or none and waits.
    fn spread(&mut self, pass: &mut Pass<'_>, combine: Combine, parts: &[Part]) -> Admitted {
        self.flush(pass);
        let mut lanes: Vec<LaneId> = Vec::with_capacity(parts.len());
        for part in parts {
            match self.entry(pass, part.shard) {
                Entry::Lane(lane) => lanes.push(lane),
                Entry::Stop(stop) => return Admitted::Stop(stop),
                Entry::Expired => return self.answer_held(pass, part.shard),
            }
        }
        let Some(session) = self.session(pass.id) else {
            return Admitted::Next;
        };
        let run = session.push(Run::gather(
            Box::new(Gather::new(combine, parts.len())),
            parts.len() as u32,
        ));
        self.counters.commands_split += 1;
        for (at, (part, lane)) in parts.iter().zip(lanes).enumerate() {
            let entry = entry_for(pass, run, Expect::Part(at as u16), 1, LatencyClass::Part);
            self.send(lane, &part.frame, entry, 1, pass.now);
        }
        Admitted::Next
    }
}
