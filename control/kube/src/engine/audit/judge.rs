//! What a Job, its Pods and their events say, and what the answer is worth beside the record. Pure.

use serde_json::Value;
use understudy_control::snapshot::{Checksum, DataRead, SnapshotHandle, Verified};

/// Reasons of a container that does not start and will not by itself, unless somebody puts something right.
const STUCK: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// How far a Job is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Look {
    /// It goes on: what it waits for.
    Runs(String),
    /// Its container does not start, in the system's words.
    Stuck(String),
    /// It has answered.
    Answered(Box<DataRead>),
    /// It has ended without an answer, in the system's words.
    Broken(String),
}

/// How far a Job is, by itself and by its Pods. Pods of another Job of that name are not asked.
pub(super) fn look(job: &Value, pods: &[Value]) -> Look {
    let uid = &job["metadata"]["uid"];
    let owned = |pod: &&Value| {
        let owners = pod["metadata"]["ownerReferences"].as_array();
        owners.into_iter().flatten().any(|it| it["uid"] == *uid)
    };
    let mut last = None;
    for pod in pods.iter().filter(owned) {
        match of_pod(pod) {
            Look::Answered(read) => return Look::Answered(read),
            other => last = Some(other),
        }
    }
    let conditions = job["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    let failed = conditions.find(|it| it["type"] == "Failed" && it["status"] == "True");
    match (last, failed) {
        (Some(broken @ Look::Broken(_)), _) => broken,
        (_, Some(failed)) => Look::Broken(words(failed)),
        (_, None) if job["status"]["succeeded"].as_u64() > Some(0) => {
            Look::Broken("it is complete, and its Pod is gone with the answer".to_owned())
        }
        (Some(other), None) => other,
        (None, None) => Look::Runs("it has no Pod yet".to_owned()),
    }
}

fn of_pod(pod: &Value) -> Look {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let state = &pod["status"]["containerStatuses"][0]["state"];
    let ended = &state["terminated"];
    if ended.is_object() {
        let message = ended["message"].as_str().unwrap_or_default().trim();
        if let Ok(read) = serde_json::from_str(message) {
            return Look::Answered(Box::new(read));
        }
        let code = ended["exitCode"].as_i64().unwrap_or(-1);
        let reason = ended["reason"].as_str().unwrap_or("it gives no reason");
        return Look::Broken(format!(
            "Pod {name} ended with code {code} ({reason}) and no answer: {message}"
        ));
    }
    if pod["status"]["phase"] == "Failed" {
        return Look::Broken(format!("Pod {name} failed: {}", words(&pod["status"])));
    }
    if pod["status"]["phase"] == "Running" {
        return Look::Runs(format!("Pod {name} reads the data"));
    }
    let waiting = &state["waiting"];
    let reason = waiting["reason"].as_str().unwrap_or_default();
    if STUCK.contains(&reason) {
        return Look::Stuck(format!("Pod {name}: {}", words(waiting)));
    }
    let conditions = pod["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    let unscheduled = conditions.find(|it| it["type"] == "PodScheduled" && it["status"] == "False");
    match (unscheduled, reason) {
        (Some(unscheduled), _) => Look::Runs(format!("Pod {name}: {}", words(unscheduled))),
        (None, "") => Look::Runs(format!("Pod {name} is pending")),
        (None, _) => Look::Runs(format!("Pod {name}: {}", words(waiting))),
    }
}

/// `reason: message`, as the system says it.
fn words(of: &Value) -> String {
    let text = |name: &str| of[name].as_str().unwrap_or_default();
    match (text("reason"), text("message")) {
        ("", "") => "it says nothing".to_owned(),
        (one, "") | ("", one) => one.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    }
}

/// The last warning about each of these objects of a Job, where there is one: its own, its Pods' and its claim's.
pub(super) fn warnings(events: &[Value], name: &str) -> Vec<String> {
    let when = |it: &Value| {
        let times = ["lastTimestamp", "eventTime", "firstTimestamp"];
        let time = times.iter().find_map(|name| it[*name].as_str());
        time.unwrap_or_default().to_owned()
    };
    // A Pod's name begins with its Job's.
    let about = |it: &&Value| {
        let object = it["involvedObject"]["name"].as_str().unwrap_or_default();
        it["type"] == "Warning" && object.starts_with(name)
    };
    let mut about: Vec<&Value> = events.iter().filter(about).collect();
    about.sort_by_key(|it| when(it));
    let mut told: Vec<String> = Vec::new();
    for kind in ["PersistentVolumeClaim", "Job", "Pod"] {
        let of_kind = |it: &&&Value| it["involvedObject"]["kind"] == kind;
        if let Some(last) = about.iter().rev().find(of_kind) {
            let object = last["involvedObject"]["name"].as_str().unwrap_or_default();
            told.push(format!("{kind} {object}: {}", words(last)));
        }
    }
    told
}

/// What the answer is worth beside the record, or why it is worth nothing.
pub(super) fn compare(handle: &SnapshotHandle, read: DataRead) -> Result<Verified, String> {
    if !read.sound {
        let what = read.damage.unwrap_or_else(|| "it does not say".to_owned());
        return Err(format!("its data is damaged: {what}"));
    }
    let (keys, commands) = (read.keys, read.commands);
    let recorded = handle.keys;
    if recorded > Some(0) && keys == 0 && commands == 0 {
        return Err(format!(
            "it reads back, and holds no key; the record counted {} on the server before the cut",
            recorded.unwrap_or_default()
        ));
    }
    let mut lines = read.lines;
    if read.checksum == Checksum::Absent {
        lines.push(
            "no RDB in it has a checksum: its structure is right, its values are not proven"
                .to_owned(),
        );
    }
    if let Some(saved) = read.saved_at_s {
        let cut = handle.taken_at_ms / 1000;
        lines.push(match cut.checked_sub(saved) {
            Some(age) if handle.taken_at_ms > 0 => {
                format!("its RDB was begun {age} s before the cut")
            }
            _ => format!("its RDB was begun at {saved} s since 1970, by its server's clock"),
        });
    }
    lines.push(beside(recorded, keys, commands));
    Ok(Verified {
        keys,
        bytes: read.bytes,
        lines,
    })
}

/// The count on record is of a server that served on: equal it is only where nobody wrote.
fn beside(recorded: Option<u64>, keys: u64, commands: u64) -> String {
    let behind = match commands {
        0 => String::new(),
        count => format!(" and {count} commands appended behind them"),
    };
    match recorded {
        None => format!("{keys} keys{behind}; the record has no count to compare with"),
        Some(recorded) if recorded == keys && commands == 0 => {
            format!("its {keys} keys are as many as the record counted")
        }
        Some(recorded) => {
            let doubt = match commands == 0 && keys < recorded / 2 {
                true => "; that is less than half: find out why before you rely on it",
                false => "",
            };
            format!(
                "{keys} keys{behind}; the record counted {recorded} on the server before the cut, while it served on{doubt}"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use understudy_control::snapshot::{Checksum, DataRead, SnapshotHandle};

    use super::{Look, compare, look, warnings};

    fn pod(status: &Value) -> Value {
        json!({"metadata": {"name": "v-x", "ownerReferences": [{"uid": "j"}]}, "status": status})
    }

    fn seen(status: &Value) -> Look {
        let job = json!({"metadata": {"uid": "j"}, "status": {"active": 1}});
        look(&job, &[pod(status)])
    }

    fn read(keys: u64, commands: u64) -> DataRead {
        DataRead {
            sound: true,
            keys,
            commands,
            checksum: Checksum::Right,
            ..DataRead::default()
        }
    }

    #[test]
    fn what_a_pod_waits_for_is_told_in_the_systems_words() {
        let unscheduled = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/3 nodes are available"}]});
        let expect = "Pod v-x: Unschedulable: 0/3 nodes are available";
        assert_eq!(seen(&unscheduled), Look::Runs(expect.to_owned()));
        let waiting = |reason: &str| json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": reason, "message": "m"}}}]});
        assert_eq!(
            seen(&waiting("ContainerCreating")),
            Look::Runs("Pod v-x: ContainerCreating: m".to_owned())
        );
        let stuck = "Pod v-x: ImagePullBackOff: m".to_owned();
        assert_eq!(seen(&waiting("ImagePullBackOff")), Look::Stuck(stuck));
        assert_eq!(
            look(&json!({"metadata": {"uid": "j"}}), &[]),
            Look::Runs("it has no Pod yet".to_owned())
        );
    }

    #[test]
    fn an_answer_counts_from_the_jobs_own_pod_and_an_end_without_one_is_told() {
        let ended = |message: &str| json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 1, "reason": "Error", "message": message}}}]});
        let line = read(3, 0).to_line(4096);
        assert_eq!(seen(&ended(&line)), Look::Answered(Box::new(read(3, 0))));
        let Look::Broken(text) = seen(&ended("exec format error")) else {
            panic!("it did not answer")
        };
        assert!(text.contains("code 1") && text.contains("exec format error"));
        let other = json!({"metadata": {"uid": "another"}, "status": {}});
        assert_eq!(
            look(&other, &[pod(&ended(&line))]),
            Look::Runs("it has no Pod yet".to_owned())
        );
        let failed = json!({"metadata": {"uid": "j"}, "status": {"conditions": [{"type": "Failed", "status": "True",
            "reason": "DeadlineExceeded", "message": "Job was active longer than specified deadline"}]}});
        let Look::Broken(text) = look(&failed, &[]) else {
            panic!("it failed")
        };
        assert!(text.starts_with("DeadlineExceeded: Job was active"));
    }

    #[test]
    fn the_last_warning_of_each_object_is_told() {
        let event = |kind: &str, name: &str, at: &str, text: &str| {
            json!({"type": "Warning", "reason": "R", "message": text, "lastTimestamp": at,
                "involvedObject": {"kind": kind, "name": name}})
        };
        let events = [
            event("Pod", "v-x", "2026-01-01T00:00:02Z", "new"),
            event("Pod", "v-x", "2026-01-01T00:00:01Z", "old"),
            event("Job", "other", "2026-01-01T00:00:01Z", "no"),
            event("PersistentVolumeClaim", "v", "2026-01-01T00:00:01Z", "c"),
        ];
        let told = warnings(&events, "v");
        assert_eq!(told, ["PersistentVolumeClaim v: R: c", "Pod v-x: R: new"]);
    }

    #[test]
    fn a_count_is_compared_as_what_it_is_and_nothing_in_place_of_much_is_a_failure() {
        let handle = |keys: Option<u64>| SnapshotHandle {
            keys,
            ..SnapshotHandle::default()
        };
        let line = |recorded: Option<u64>, keys: u64, commands: u64| {
            let verified = compare(&handle(recorded), read(keys, commands)).unwrap();
            verified.lines.last().unwrap().clone()
        };
        assert!(line(Some(7), 7, 0).contains("as many as the record"));
        assert!(line(Some(7), 8, 0).contains("counted 7"));
        assert!(line(Some(7), 3, 9).contains("9 commands appended"));
        assert!(line(Some(7), 3, 0).contains("less than half") == (3 < 7 / 2));
        assert!(line(Some(100), 3, 0).contains("less than half"));
        assert!(line(None, 3, 0).contains("no count"));
        let empty = compare(&handle(Some(7)), read(0, 0)).unwrap_err();
        assert!(empty.contains("holds no key"), "{empty}");
        compare(&handle(Some(0)), read(0, 0)).unwrap();
        compare(&handle(Some(7)), read(0, 3)).unwrap();
        let damaged = DataRead {
            damage: Some("dump.rdb: checksum".to_owned()),
            ..DataRead::default()
        };
        let told = compare(&handle(Some(7)), damaged).unwrap_err();
        assert_eq!(told, "its data is damaged: dump.rdb: checksum");
    }
}
