//! A proxy without clients: the gate of docs/gate.md as a plain value, and everything it was told, in order.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use understudy_net::{AdminHandler, AdminLimits, AdminRequest, AdminServer, AdminTable, Value};

/// What one shard's gate is.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) state: &'static str,
    pub(crate) epoch: u64,
    pub(crate) term: u64,
    pub(crate) backend: String,
}

#[derive(Debug)]
struct State {
    gate: Gate,
    told: Vec<String>,
    instance: String,
    refuse: Option<(&'static str, &'static str)>,
    mute: Option<&'static str>,
}

/// A proxy of one pool `p` with one shard `s1`.
#[derive(Debug)]
pub(crate) struct StubProxy {
    state: Mutex<State>,
}

impl StubProxy {
    pub(crate) fn new(backend: &str) -> Arc<StubProxy> {
        let gate = Gate {
            state: "open",
            epoch: 0,
            term: 0,
            backend: backend.to_owned(),
        };
        let state = State {
            gate,
            told: Vec::new(),
            instance: "stub".to_owned(),
            refuse: None,
            mute: None,
        };
        Arc::new(StubProxy {
            state: Mutex::new(state),
        })
    }

    pub(crate) fn admin(self: &Arc<Self>) -> Arc<AdminServer> {
        let mut table = AdminTable::new();
        table.add("PROXY", "the stub", Arc::new(Handler(self.clone())));
        Arc::new(AdminServer::new(table, Vec::new(), AdminLimits::default()))
    }

    pub(crate) fn gate(&self) -> Gate {
        self.state.lock().unwrap().gate.clone()
    }

    /// The orders so far, without terms.
    pub(crate) fn told(&self) -> Vec<String> {
        self.state.lock().unwrap().told.clone()
    }

    /// Answers this verb with this error from now on.
    pub(crate) fn refuse(&self, what: Option<(&'static str, &'static str)>) {
        self.state.lock().unwrap().refuse = what;
    }

    /// Answers this verb with nothing at all from now on, and does not obey it.
    pub(crate) fn mute(&self, what: Option<&'static str>) {
        self.state.lock().unwrap().mute = what;
    }

    /// Which process it says that it is.
    pub(crate) fn set_instance(&self, name: &str) {
        self.state.lock().unwrap().instance = name.to_owned();
    }

    pub(crate) fn set(&self, gate: Gate) {
        self.state.lock().unwrap().gate = gate;
    }

    fn answer(&self, request: &AdminRequest) -> Value {
        let mut state = self.state.lock().unwrap();
        let word = |index: usize| request.text(index).unwrap_or_default().to_owned();
        let number = |index: usize| word(index).parse::<u64>().unwrap_or(0);
        let verb = word(0).to_ascii_uppercase();
        match verb.as_str() {
            "POOLS" => {
                let gate = &state.gate;
                return Value::text(format!(
                    r#"{{"instance":"{}","version":"0","workers":1,"pools":[{{"name":"p","shards":[{{"name":"s1","epoch":{},"term":{},"gate":"{}","backend":"{}","in_flight":0,"held_sessions":0}}]}}]}}"#,
                    state.instance, gate.epoch, gate.term, gate.state, gate.backend
                ));
            }
            "STATS" => {
                return Value::text(
                    r#"{"commands":10,"errors":0,"longest_gap_us":4000,"latency_p99_us":300,"latency_p50_us":100,"window_s":60}"#,
                );
            }
            "SCRIPTS" => return Value::Array(vec![Value::text("return 7")]),
            _ => {}
        }
        state.told.push(verb.clone());
        if let Some((refused, text)) = state.refuse
            && refused == verb
        {
            return Value::error(text);
        }
        let (epoch, term) = (number(3), number(4));
        if term < state.gate.term {
            return Value::error(format!(
                "STALETERM shard s1 has seen term {}, this is {term}",
                state.gate.term
            ));
        }
        let gate = &mut state.gate;
        match verb.as_str() {
            "HOLD" if gate.epoch == epoch => (gate.state, gate.term) = ("held", term),
            "PREPARE" if gate.state == "held" || gate.state == "prepared" => {
                gate.state = "prepared";
            }
            "SWITCH" if gate.state == "prepared" => {
                (gate.state, gate.epoch, gate.backend) = ("switched", number(5), word(6));
            }
            "SWITCH" if gate.epoch == number(5) => {}
            "RELEASE" if gate.epoch == epoch => gate.state = "open",
            "HOLD" | "RELEASE" => {
                return Value::error(format!(
                    "WRONGEPOCH shard s1 is at epoch {}, not {epoch}",
                    gate.epoch
                ));
            }
            _ => return Value::error("NOTHELD shard s1"),
        }
        Value::fields([
            ("gate", Value::from(gate.state)),
            ("epoch", Value::text(gate.epoch.to_string())),
            ("term", Value::text(gate.term.to_string())),
            ("in_flight", Value::from("0")),
            ("waited_us", Value::from("120")),
        ])
    }
}

struct Handler(Arc<StubProxy>);

impl AdminHandler for Handler {
    fn call<'a>(
        &'a self,
        request: AdminRequest,
    ) -> Pin<Box<dyn Future<Output = Value> + Send + 'a>> {
        Box::pin(async move {
            let verb = request.text(0).unwrap_or_default().to_ascii_uppercase();
            let is_mute = self.0.state.lock().unwrap().mute == Some(verb.as_str());
            if is_mute {
                std::future::pending::<()>().await;
            }
            self.0.answer(&request)
        })
    }

    fn help(&self) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }
}
