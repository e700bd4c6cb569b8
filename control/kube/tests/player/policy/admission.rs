//! A ValidatingAdmissionPolicy as an API server takes it: rules, conditions, variables, validations, and `failurePolicy: Fail`.
//!
//! The expressions are evaluated by an implementation of CEL. What a server does around them is done here as it does it: the
//! fields of a request that have no value are absent, an object that is not there is null, and an error denies.

use std::collections::{BTreeSet, HashMap};

use cel::{Context, Program, Value as Cel};
use serde_json::{Value, json};
use understudy_kube::cluster::Api;
use understudy_kube::cluster::memory::Review;

/// One that has been compiled.
pub(super) struct Policy {
    rules: Vec<Value>,
    conditions: Vec<Expression>,
    variables: Vec<Expression>,
    /// With the message that the caller is told.
    validations: Vec<(Expression, String)>,
}

struct Expression {
    name: String,
    program: Program,
}

/// What becomes of a request.
#[derive(Debug, PartialEq)]
pub(super) enum Decision {
    /// It is not about this request.
    Untouched,
    Allowed,
    /// The messages of all that said no.
    Denied(Vec<String>),
}

/// A request of somebody: who, what, and the objects.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) user: String,
    pub(super) review: Review,
}

/// What expressions of a policy without parameters may name.
const NAMES: [&str; 5] = [
    "object",
    "oldObject",
    "request",
    "namespaceObject",
    "variables",
];

impl Policy {
    /// Compiles a rendered one. Whatever a server would refuse panics.
    pub(super) fn of(rendered: &Value) -> Self {
        let spec = &rendered["spec"];
        assert_eq!(spec["failurePolicy"], "Fail");
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut known = BTreeSet::new();
        let compile = |entry: &Value, known: &mut BTreeSet<String>| {
            let text = entry["expression"].as_str().expect("an expression");
            let name = entry["name"].as_str().unwrap_or(text).to_owned();
            let program = Program::compile(text).unwrap_or_else(|cause| panic!("{text}: {cause}"));
            // A server looks at names before anything runs; this CEL would at the moment of use, if it comes to that.
            for named in program.references().variables() {
                let bound = text.contains(&format!("({named},"));
                assert!(NAMES.contains(&named) || bound, "{named} in {text}");
            }
            for part in text.split("variables.").skip(1) {
                let end = part.find(|it: char| !it.is_ascii_alphanumeric());
                let named = &part[..end.unwrap_or(part.len())];
                assert!(known.contains(named), "variables.{named} in {text}");
            }
            if !entry["name"].is_null() {
                known.insert(name.clone());
            }
            Expression { name, program }
        };
        let conditions = list(&spec["matchConditions"]);
        let conditions = conditions
            .iter()
            .map(|it| compile(it, &mut BTreeSet::new()))
            .collect();
        let variables = list(&spec["variables"]);
        let variables = variables.iter().map(|it| compile(it, &mut known)).collect();
        let validations = list(&spec["validations"]);
        let validations = validations.iter().map(|it| {
            let message = it["message"].as_str().expect("a message").to_owned();
            (compile(it, &mut known), message)
        });
        Self {
            rules: list(&spec["matchConstraints"]["resourceRules"]),
            conditions,
            variables,
            validations: validations.collect(),
        }
    }

    /// The messages of all validations.
    pub(super) fn messages(&self) -> Vec<&str> {
        self.validations.iter().map(|it| it.1.as_str()).collect()
    }

    /// Without one of the validations.
    pub(super) fn weakened(mut self, validation: usize) -> Self {
        self.validations.remove(validation);
        self
    }

    /// As a server decides.
    pub(super) fn decide(&self, request: &Request) -> Decision {
        if !self.rules.iter().any(|rule| covers(rule, &request.review)) {
            return Decision::Untouched;
        }
        let mut context = context(request);
        for condition in &self.conditions {
            match condition.program.execute(&context) {
                Ok(Cel::Bool(true)) => {}
                Ok(Cel::Bool(false)) => return Decision::Untouched,
                other => return Decision::Denied(vec![format!("{}: {other:?}", condition.name)]),
            }
        }
        // A variable is evaluated when it is used: an error in one that nobody uses is none.
        let mut variables: HashMap<String, Cel> = HashMap::new();
        for variable in &self.variables {
            if let Ok(value) = variable.program.execute(&context) {
                variables.insert(variable.name.clone(), value);
                context.add_variable_from_value("variables", variables.clone());
            }
        }
        let said = self.validations.iter().filter_map(|(validation, message)| {
            match validation.program.execute(&context) {
                Ok(Cel::Bool(true)) => None,
                Ok(Cel::Bool(false)) => Some(message.clone()),
                other => Some(format!("{} resulted in {other:?}", validation.name)),
            }
        });
        match said.collect::<Vec<_>>() {
            said if said.is_empty() => Decision::Allowed,
            said => Decision::Denied(said),
        }
    }
}

fn covers(rule: &Value, review: &Review) -> bool {
    let has = |key: &str, wanted: &str| {
        let list = rule[key].as_array().expect("a list");
        list.iter().any(|it| it == wanted || it == "*")
    };
    has("apiGroups", &review.api.group)
        && has("apiVersions", &review.api.version)
        && has("resources", &review.api.plural)
        && has("operations", review.operation)
}

fn context(request: &Request) -> Context<'static, 'static> {
    let review = &request.review;
    let api = &review.api;
    let kind = json!({"group": api.group, "version": api.version, "kind": api.kind});
    let resource = json!({"group": api.group, "version": api.version, "resource": api.plural});
    let mut said = json!({
        "uid": "0", "operation": review.operation, "dryRun": false,
        "kind": kind, "requestKind": kind, "resource": resource, "requestResource": resource,
        "userInfo": {"username": request.user, "groups": ["system:authenticated"]},
    });
    if !review.name.is_empty() {
        said["name"] = json!(review.name);
    }
    if let Some(namespace) = &review.namespace {
        said["namespace"] = json!(namespace);
    }
    let whole = |object: &Value| {
        let mut object = object.clone();
        if !object.is_null() {
            let version = match api.group.as_str() {
                "" => api.version.clone(),
                group => format!("{group}/{}", api.version),
            };
            object["apiVersion"] = json!(version);
            object["kind"] = json!(api.kind);
            if let Some(namespace) = &review.namespace {
                object["metadata"]["namespace"] = json!(namespace);
            }
        }
        object
    };
    let mut context = Context::default();
    for (name, value) in [
        ("request", said),
        ("object", whole(&review.object)),
        ("oldObject", whole(&review.old)),
        ("namespaceObject", json!(null)),
        ("variables", json!({})),
    ] {
        context.add_variable(name, value).expect("plain JSON");
    }
    context
}

#[test]
fn what_cannot_be_evaluated_is_denied_and_what_is_not_ours_is_untouched() {
    let policy = |condition: &str, validation: &str| {
        let rule = json!({"apiGroups": [""], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["configmaps"]});
        Policy::of(&json!({"spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [rule]},
            "matchConditions": [{"name": "ours", "expression": condition}],
            "variables": [
                {"name": "broken", "expression": "object.nothing.there"},
                {"name": "two", "expression": "1 + 1"},
            ],
            "validations": [{"expression": validation, "message": "no"}],
        }}))
    };
    let review = Review {
        operation: "CREATE",
        api: Api {
            group: String::new(),
            version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            plural: "configmaps".to_owned(),
            cluster: false,
        },
        namespace: None,
        name: "a".to_owned(),
        object: json!({"metadata": {"name": "a"}}),
        old: Value::Null,
    };
    let request = Request {
        user: "me".to_owned(),
        review,
    };
    let decide = |condition: &str, validation: &str| policy(condition, validation).decide(&request);
    let mine = "request.userInfo.username == 'me'";
    assert_eq!(decide(mine, "variables.two == 2"), Decision::Allowed);
    assert_eq!(
        decide(mine, "variables.two == 3"),
        Decision::Denied(vec!["no".to_owned()])
    );
    assert_eq!(decide("request.name == 'b'", "false"), Decision::Untouched);
    for error in [
        "variables.broken == 1",
        "object.metadata.labels.x == 'y'",
        "oldObject.metadata.name == 'a'",
        "request.namespace == ''",
        "'text'",
    ] {
        let Decision::Denied(said) = decide(mine, error) else {
            panic!("{error}")
        };
        assert!(said[0].contains("resulted in"), "{error}: {said:?}");
    }
    // As CEL has it: whichever side is true decides, an error on the other one or not.
    let either = "object.nothing.there || has(object.metadata)";
    assert_eq!(decide(mine, either), Decision::Allowed);
}
