//! Rights follow the recipes in use, and nobody has more.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Value, json};
use understudy_kube::recipe::{BUILTIN, Book, Purpose, Recipe};

use crate::helm;
use crate::objects::{of_kind, title};

const FILE: &str = "helm/understudy/files/recipes-rbac.yaml";

/// `UNDERSTUDY_BLESS=1` writes it.
#[test]
fn the_file_of_rights_is_what_the_recipes_say() {
    let book = Book::builtin().expect("the shipped recipes are valid");
    let mut text = "# Written from control/kube/recipes; UNDERSTUDY_BLESS=1 cargo test -p understudy-kube --test chart writes it again.\n".to_owned();
    text += "# scope: the namespaces of the claims, the cluster, or the namespace where snapshots are read back; `namespace` is another one, which the recipe's `param` may change.\n";
    for (name, _) in BUILTIN {
        let recipe = book.find(name).expect("a shipped recipe is in the book");
        writeln!(text, "{name}:").unwrap();
        for rule in rules(recipe) {
            writeln!(text, "  - {rule}").unwrap();
        }
    }
    if std::env::var_os("UNDERSTUDY_BLESS").is_some() {
        std::fs::write(helm::repository().join(FILE), &text).unwrap();
    }
    assert_eq!(
        helm::read(FILE),
        text,
        "UNDERSTUDY_BLESS=1 cargo test -p understudy-kube --test chart"
    );
}

/// One line for each resource, place and purpose, with all its verbs.
fn rules(recipe: &Recipe) -> Vec<String> {
    let mut merged: BTreeMap<(String, String, String, &str), BTreeSet<String>> = BTreeMap::new();
    for rule in &recipe.rbac {
        let kind = &recipe.kinds[&rule.kind];
        let resource = match &rule.subresource {
            Some(part) => format!("{}/{part}", kind.plural),
            None => kind.plural.clone(),
        };
        let purpose = match rule.purpose {
            Purpose::Take => "take",
            Purpose::Restore => "restore",
            Purpose::Delete => "delete",
        };
        let mut place = place(recipe, kind.cluster, rule.namespace.as_ref());
        if resource == "secrets" {
            // Never all of them: the one that the operator names.
            assert!(recipe.params.contains_key("secret"), "{}", recipe.name);
            place += ", names: secret";
        }
        merged
            .entry((kind.group.clone(), resource, place, purpose))
            .or_default()
            .extend(rule.verbs.iter().cloned());
    }
    merged
        .into_iter()
        .map(|((group, resource, place, purpose), verbs)| {
            let verbs = json!(verbs).to_string().replace(',', ", ");
            format!("{{ apiGroups: [\"{group}\"], resources: [\"{resource}\"], verbs: {verbs}, {place}, for: {purpose} }}")
        })
        .collect()
}

fn place(recipe: &Recipe, cluster: bool, namespace: Option<&Value>) -> String {
    if cluster {
        return "scope: cluster".to_owned();
    }
    let template = namespace
        .and_then(Value::as_str)
        .unwrap_or("{{claim.namespace}}");
    if template == "{{verify.namespace}}" {
        return "scope: verify".to_owned();
    }
    if template == "{{claim.namespace}}" {
        return "scope: namespace".to_owned();
    }
    let param = template
        .strip_prefix("{{params.")
        .and_then(|it| it.strip_suffix("}}"));
    match param {
        Some(param) => match recipe.params[param].default.as_str() {
            Some("{{claim.namespace}}") | None => format!("scope: namespace, param: {param}"),
            Some(name) => format!("scope: namespace, namespace: {name}, param: {param}"),
        },
        None => {
            assert!(!template.contains("{{"), "{}: {template}", recipe.name);
            format!("scope: namespace, namespace: {template}")
        }
    }
}

/// Every right that is granted, as `namespace group/resource verb` with `*` for the cluster.
fn granted(objects: &[Value]) -> BTreeSet<String> {
    let mut granted = BTreeSet::new();
    for role in [of_kind(objects, "Role"), of_kind(objects, "ClusterRole")].concat() {
        let place = role["metadata"]["namespace"].as_str().unwrap_or("*");
        for rule in role["rules"].as_array().unwrap() {
            let texts = |key: &str| -> Vec<String> {
                let list = rule[key].as_array().unwrap().iter();
                list.map(|it| it.as_str().unwrap().to_owned()).collect()
            };
            for group in texts("apiGroups") {
                for mut resource in texts("resources") {
                    if let Some(name) = rule["resourceNames"][0].as_str() {
                        resource = format!("{resource}={name}");
                    }
                    for verb in texts("verbs") {
                        granted.insert(format!("{place} {group}/{resource} {verb}"));
                    }
                }
            }
        }
    }
    granted
}

#[test]
fn without_recipes_control_may_look_for_pods_of_proxies_and_nobody_may_do_more() {
    let more =
        helm::least_and(&json!({ "control": { "pods": { "namespaces": ["shop", "redis"] } } }));
    let none = helm::least_and(&json!({ "control": { "pods": { "enabled": false } } }));
    let Some(rendered) = helm::render(&[helm::least(), more, none]) else {
        return;
    };
    let rendered: Vec<_> = rendered.into_iter().map(Result::unwrap).collect();
    let rights = |at: usize| granted(&rendered[at]).into_iter().collect::<Vec<_>>();
    assert_eq!(rights(0), ["redis /pods get"]);
    assert_eq!(rights(1), ["redis /pods get", "shop /pods get"]);
    let subjects =
        json!([{ "kind": "ServiceAccount", "name": "understudy-control", "namespace": "redis" }]);
    for binding in of_kind(&rendered[1], "RoleBinding") {
        assert_eq!(binding["subjects"], subjects, "{}", title(binding));
    }
    for kind in [
        "ClusterRole",
        "ClusterRoleBinding",
        "ValidatingAdmissionPolicy",
    ] {
        assert!(of_kind(&rendered[1], kind).is_empty(), "{kind}");
    }
    for kind in ["Role", "RoleBinding"] {
        assert!(of_kind(&rendered[2], kind).is_empty(), "{kind}");
    }
}

#[test]
fn a_recipe_brings_its_rights_and_no_others() {
    let values = helm::least_and(&json!({ "snapshots": { "recipes": ["csi"], "restore": false } }));
    let Some(rendered) = helm::render(&[values]) else {
        return;
    };
    let objects = rendered[0].as_ref().unwrap();
    let granted = granted(objects);
    let written: Vec<_> = granted
        .iter()
        .filter(|it| !["get", "list", "watch"].contains(&it.rsplit(' ').next().unwrap()))
        .collect();
    assert_eq!(
        written,
        [
            "* snapshot.storage.k8s.io/volumesnapshotcontents patch",
            "redis /configmaps create",
            "redis /configmaps delete",
            "redis /configmaps patch",
            "redis snapshot.storage.k8s.io/volumesnapshots create",
            "redis snapshot.storage.k8s.io/volumesnapshots delete",
            "redis snapshot.storage.k8s.io/volumesnapshots patch",
        ]
    );
    assert!(granted.contains("* /persistentvolumes get"));
    assert!(!granted.iter().any(|it| it.contains("velero")));
    for binding in [
        of_kind(objects, "RoleBinding"),
        of_kind(objects, "ClusterRoleBinding"),
    ]
    .concat()
    {
        let subjects = json!([{ "kind": "ServiceAccount", "name": "understudy-control", "namespace": "redis" }]);
        assert_eq!(binding["subjects"], subjects, "{}", title(binding));
    }
}

/// Where claims are restored under the names that they had, and only there.
#[test]
fn what_is_read_back_in_a_namespace_of_its_own_brings_rights_there_and_nowhere_else() {
    let with = |verify: Value| {
        helm::least_and(&json!({ "snapshots": { "recipes": ["kasten"], "verify": verify } }))
    };
    let Some(rendered) = helm::render(&[
        with(json!({})),
        with(json!({ "namespace": "read-back" })),
        with(json!({ "namespace": "redis" })),
    ]) else {
        return;
    };
    let rights = |at: usize| granted(rendered[at].as_ref().unwrap());
    let more: Vec<_> = rights(1).difference(&rights(0)).cloned().collect();
    let there = |it: &&String| it.starts_with("read-back ");
    assert!(more.iter().all(|it| there(&it)), "{more:#?}");
    for right in [
        "read-back /persistentvolumeclaims delete",
        "read-back /persistentvolumeclaims patch",
        "read-back actions.kio.kasten.io/restoreactions create",
        "read-back actions.kio.kasten.io/restoreactions delete",
        "read-back batch/jobs create",
    ] {
        assert!(more.iter().any(|it| it == right), "{right}: {more:#?}");
    }
    assert!(
        !rights(0)
            .iter()
            .any(|it| it.contains("restoreactions delete"))
    );
    let refused = rendered[2].as_ref().unwrap_err();
    assert!(
        refused.contains("snapshots.verify.namespace: redis is where servers are"),
        "{refused}"
    );
}

#[test]
fn no_right_is_a_wildcard_or_reaches_secrets_that_nobody_named() {
    let values: Vec<_> = helm::scenarios().into_iter().map(|it| it.1).collect();
    let Some(rendered) = helm::render(&values) else {
        return;
    };
    for objects in rendered {
        for right in granted(&objects.unwrap()) {
            let resource = right.split(' ').nth(1).unwrap();
            assert!(!resource.contains('*') && !right.ends_with('*'), "{right}");
            for never in [
                "/secrets",
                "/pods/exec",
                "rbac.authorization",
                "/serviceaccounts",
                "/nodes",
            ] {
                assert!(
                    !resource.ends_with(never) && !right.contains(&format!(" {never}.k8s.io")),
                    "{right}"
                );
            }
        }
    }
}

#[test]
fn rights_are_where_the_claims_and_the_system_are() {
    let values = helm::least_and(&json!({ "snapshots": {
        "recipes": ["csi", "velero"], "namespaces": ["a", "b"], "params": { "velero": { "namespace": "backup" } } } }));
    let Some(rendered) = helm::render(&[values]) else {
        return;
    };
    let granted = granted(rendered[0].as_ref().unwrap());
    for right in [
        "a snapshot.storage.k8s.io/volumesnapshots create",
        "b snapshot.storage.k8s.io/volumesnapshots create",
        "backup velero.io/backups create",
    ] {
        assert!(granted.contains(right), "{right} is not in {granted:#?}");
    }
    let of_snapshots = |right: &&String| *right != "redis /pods get";
    for place in ["redis ", "velero "] {
        let mut granted = granted.iter().filter(of_snapshots);
        assert!(!granted.any(|it| it.starts_with(place)), "{place}");
    }
}

/// What may be written is what the policy looks at.
#[test]
fn the_policy_covers_every_right_to_write() {
    let values: Vec<_> = helm::scenarios().into_iter().map(|it| it.1).collect();
    let Some(rendered) = helm::render(&values) else {
        return;
    };
    for objects in rendered {
        let objects = objects.unwrap();
        let policies = of_kind(&objects, "ValidatingAdmissionPolicy");
        let mut covered = BTreeSet::new();
        for policy in &policies {
            assert_eq!(policy["spec"]["failurePolicy"], "Fail");
            for rule in policy["spec"]["matchConstraints"]["resourceRules"]
                .as_array()
                .unwrap()
            {
                for operation in rule["operations"].as_array().unwrap() {
                    let name = |key: &str| rule[key][0].as_str().unwrap().to_owned();
                    covered.insert(format!(
                        "{}/{} {}",
                        name("apiGroups"),
                        name("resources"),
                        operation.as_str().unwrap()
                    ));
                }
            }
        }
        for right in granted(&objects) {
            let (what, verb) = right.split_once(' ').unwrap().1.rsplit_once(' ').unwrap();
            let operation = match verb {
                "create" => "CREATE",
                "patch" | "update" => "UPDATE",
                "delete" => "DELETE",
                _ => continue,
            };
            assert!(
                covered.contains(&format!("{what} {operation}")),
                "{right} is not pinned"
            );
        }
    }
}
