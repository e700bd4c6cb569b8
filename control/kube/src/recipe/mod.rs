//! Recipes: how one backup system is driven, as data.
//!
//! A recipe is YAML of a versioned schema (docs/recipes.md). It is read once into types that cannot be wrong, with every
//! problem told at once. Templates in it are filled as JSON values: what a parameter holds is never parsed as YAML.

mod builtin;
mod extends;
mod fill;
mod names;
mod rbac;
mod read;
mod read_parts;
mod read_predicate;
mod read_step;
mod scratch;
mod walk;

pub(crate) use walk::duration as parse_duration;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

pub use builtin::{BUILTIN, Book, BookError};
pub use extends::merge;
pub use fill::{FillError, Vars, fill, fill_predicate, fill_text};
pub use rbac::{Right, rights};
pub use read::read;
pub use scratch::{Scratch, ScratchInto, Way};

use crate::predicate::{Predicate, Ref};

/// The version of the schema that this program reads.
pub const VERSION: u64 = 1;

/// How one backup system is driven.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// What SNAPSHOT calls it.
    pub name: String,
    /// The system, for people.
    pub title: String,
    /// A recipe that is off must be turned on by a file of the operator.
    pub enabled: bool,
    /// What it needs and where it ends, one sentence each: for the docs.
    pub notes: Vec<String>,
    /// What one trigger captures.
    pub scope: Scope,
    /// How consistent what it captures is.
    pub consistency: Consistency,
    /// Whether clients are held around the trigger.
    pub quiesce: Quiesce,
    /// Kinds by the name that the recipe uses for them.
    pub kinds: BTreeMap<String, Kind>,
    /// What an operator may or must set.
    pub params: BTreeMap<String, Param>,
    /// The resolved list whose length is `expect`; without it `expect` is 1.
    pub expect: Option<String>,
    /// Ordered reads before anything is touched.
    pub resolve: Vec<Resolve>,
    /// When something else is in the way.
    pub conflict: Option<Conflict>,
    /// Changes before the first trigger.
    pub prepare: Vec<Change>,
    /// Triggers, in order; mostly one.
    pub steps: Vec<Step>,
    /// What is kept of a finished snapshot; each must be non-empty.
    pub handle: BTreeMap<String, Handle>,
    /// Deadlines of the run, and of steps that have none of their own.
    pub deadlines: Deadlines,
    /// What happens to a trigger that was skipped.
    pub again: Again,
    /// Changes that keep a good snapshot until it is released.
    pub protect: Vec<Change>,
    /// How it is restored.
    pub restore: Option<Restore>,
    /// How it is brought into a claim that is read back and forgotten, where `restore` does not do that.
    pub scratch: Option<Scratch>,
    /// How it is deleted.
    pub delete: Option<Delete>,
    /// The rights that it needs.
    pub rbac: Vec<Rule>,
}

/// What one trigger captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One claim.
    Pvc,
    /// Every claim that a selector chooses.
    Selector,
    /// An application as the backup system knows it.
    App,
}

/// How far a snapshot can be trusted. Ordered: each includes the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reached {
    /// Files read at different times.
    None,
    /// As after a power cut.
    Crash,
    /// The file system was frozen.
    Fs,
    /// Redis had put everything up to a known offset on the disk.
    App,
}

impl Reached {
    /// As a recipe, a label and STATUS write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Crash => "crash",
            Self::Fs => "fs",
            Self::App => "app",
        }
    }
}

/// How consistent what is captured is, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consistency {
    /// What the system reaches without us.
    pub alone: Reached,
    /// What is reached when Redis was made to put its data on the disk first.
    pub quiesced: Reached,
    /// Why, for people.
    pub why: String,
}

/// Whether clients are held around the trigger. The hold ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quiesce {
    /// Who makes Redis put its data on the disk.
    pub by: QuiesceBy,
    /// Until when writes are held; never by default.
    pub hold: HoldUntil,
    /// When the hold ends by itself. A cut that comes later fails the run.
    pub max: Duration,
}

/// Who makes Redis put its data on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuiesceBy {
    /// We do, before the trigger.
    Engine,
    /// The backup system does, by a hook of its own.
    System,
    /// Nobody does.
    Nobody,
}

/// Until when writes are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldUntil {
    /// They are not held.
    Never,
    /// Until the point in time is fixed.
    Cut,
}

/// A kind of object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its group; empty for the core group.
    pub group: String,
    /// The versions whose shape the recipe knows, best first.
    pub versions: Vec<String>,
    /// Its kind.
    pub kind: String,
    /// Its name in URLs.
    pub plural: String,
    /// Whether its objects are in no namespace.
    pub cluster: bool,
    /// Whether a server that does not serve it is refused before anything is touched.
    pub detect: bool,
    /// Whether the server may be asked for it; off for aggregated APIs, whose discovery is unreliable.
    pub discover: bool,
}

impl Kind {
    /// One of Kubernetes' own, whose objects are in namespaces. Every server has it: nobody is asked whether.
    pub(crate) fn own(group: &str, version: &str, kind: &str, plural: &str) -> Self {
        Self {
            group: group.to_owned(),
            versions: vec![version.to_owned()],
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            cluster: false,
            detect: false,
            discover: false,
        }
    }
}

/// A parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// What its values are.
    pub of: ParamType,
    /// Its value when none is set; null means that there is none.
    pub default: Value,
    /// Whether it must be set.
    pub required: bool,
    /// What it is for.
    pub help: String,
}

/// What the values of a parameter are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamType {
    /// Text.
    String,
    /// A whole number.
    Int,
    /// Yes or no.
    Bool,
    /// A time as `15m`.
    Duration,
    /// Texts by names.
    Map,
    /// A list of texts.
    List,
}

/// Where objects are looked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Lookup {
    /// A name of `kinds`.
    pub kind: String,
    /// Template; none for a kind of the cluster, or for the claim's namespace.
    pub namespace: Option<Value>,
    /// Template of one object's name.
    pub name: Option<Value>,
    /// Template of a map of labels.
    pub labels: Option<Value>,
    /// Which of those found count; paths without a name are on each of them.
    pub filter: Option<Predicate>,
}

/// One read before anything is touched.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolve {
    /// The variable that it becomes.
    pub name: String,
    /// Where it is looked for.
    pub lookup: Lookup,
    /// Whether it becomes the list of all found, instead of the only one.
    pub list: bool,
    /// Whether it may be missing.
    pub optional: bool,
    /// What must hold; otherwise nothing is touched.
    pub require: Vec<Demand>,
}

/// Something that must hold, and what to do when it does not.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    /// What must hold.
    pub that: Predicate,
    /// What is told when it does not: what is wrong; what to do.
    pub otherwise: String,
}

/// When something else is in the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    /// What must hold before the trigger.
    pub idle: Predicate,
    /// How long is waited for it.
    pub wait: Duration,
    /// How often it is looked at.
    pub every: Duration,
}

/// A change to an object that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// A name of `kinds`.
    pub kind: String,
    /// Template.
    pub namespace: Option<Value>,
    /// Template.
    pub name: Value,
    /// Template of a JSON merge patch.
    pub patch: Value,
    /// Template of the patch that takes it back.
    pub undo: Option<Value>,
}

/// One trigger, and how its end is seen.
#[derive(Clone, Debug)]
pub struct Step {
    /// The variable that the watched object becomes.
    pub name: String,
    /// What starts it.
    pub trigger: Trigger,
    /// How it is watched.
    pub observe: Observe,
    /// More objects that are read with each look.
    pub also: Vec<Resolve>,
    /// What the objects mean.
    pub when: When,
    /// What it means when the object is gone.
    pub absent: Absent,
    /// Where the system says what is wrong.
    pub message: Vec<Ref>,
    /// Where it says how far it is.
    pub progress: Option<Ref>,
    /// Where it says at which time the point was fixed.
    pub cut_time: Option<Ref>,
    /// Where it says when the snapshot expires.
    pub expires: Option<Ref>,
    /// What must hold besides `ready`: at once, right before a cutover, and right before a rollback.
    pub verify: Vec<Demand>,
    /// This step's own deadlines.
    pub deadlines: Deadlines,
}

/// What starts a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Trigger {
    /// A new object.
    Create(NewObject),
    /// Server-side apply of an object.
    Apply(NewObject),
    /// A merge patch of an object that is there.
    Patch(Change),
    /// A Job from a CronJob's template.
    JobFromCronJob {
        /// The resolved CronJob.
        from: String,
        /// The Job's kind, namespace and name; its object is merged into the Job.
        job: NewObject,
        /// Environment put into every container.
        env: BTreeMap<String, Value>,
    },
    /// A request to the system's own API.
    Http(Box<HttpTrigger>),
}

/// An object to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewObject {
    /// A name of `kinds`.
    pub kind: String,
    /// Template.
    pub namespace: Option<Value>,
    /// Template; the run's own name when it is missing.
    pub name: Option<Value>,
    /// Whether the server chooses the end of the name; then the object is found again by its label.
    pub generate_name: bool,
    /// Template of the object without apiVersion, kind, name and namespace.
    pub object: Value,
}

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// GET, POST, PUT or DELETE.
    pub method: String,
    /// Template.
    pub url: Value,
    /// Templates.
    pub headers: BTreeMap<String, Value>,
    /// Template; sent as JSON.
    pub body: Option<Value>,
    /// Who we are.
    pub auth: Option<Auth>,
    /// Longest wait for the answer.
    pub timeout: Duration,
}

/// A request that starts something, and what is done when its answer is lost: it is never sent again.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpTrigger {
    /// The request.
    pub http: Http,
    /// Where the system lists what it may have begun.
    pub find: Option<Find>,
    /// Template of what a person looks for.
    pub look_for: Option<Value>,
}

/// How what a request began is found again.
#[derive(Clone, Debug, PartialEq)]
pub struct Find {
    /// The request for the list.
    pub http: Http,
    /// The elements of its answer.
    pub each: Ref,
    /// Which of them is our run's.
    pub that: Predicate,
    /// Template over `found`, that element: what the trigger's answer would have been.
    pub response: Value,
}

/// Who we are to an API that is not Kubernetes'.
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    /// The Secret's namespace: template.
    pub namespace: Option<Value>,
    /// The Secret's name: template.
    pub secret: Value,
    /// The header that carries the token.
    pub header: String,
    /// What the header's value is: template over `secret` and, after a login, `token`.
    pub value: Value,
    /// A request that gives the token, once for a run; asked again after a 401 or 403.
    pub login: Option<Login>,
    /// A request that takes the token back, when the run ends.
    pub logout: Option<Logout>,
}

/// A request that takes a token back.
#[derive(Clone, Debug, PartialEq)]
pub struct Logout {
    /// GET, POST, PUT or DELETE.
    pub method: String,
    /// Template.
    pub url: Value,
}

/// A request that gives a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Login {
    /// Template.
    pub url: Value,
    /// Template over `secret` (texts) and `secret64` (the same in base64).
    pub body: Value,
    /// Where the token is in the answer.
    pub token: Ref,
    /// How long a token is good; without it until the system no longer takes it.
    pub lasts: Option<Duration>,
}

/// How a step is watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Observe {
    /// By which means.
    pub via: Via,
    /// How often a poll looks; also the fallback of a watch.
    pub every: Duration,
}

/// By which means a step is watched.
#[derive(Clone, Debug, PartialEq)]
pub enum Via {
    /// A watch; where it is denied or breaks, a poll.
    Watch,
    /// A poll.
    Poll,
    /// A poll of the system's own API.
    Http(Box<Http>),
}

/// What the objects mean. Asked in this order: failed, ready (with cut), cut, skipped, retryable.
#[derive(Clone, Debug, Default)]
pub struct When {
    /// The controller has taken it up. Without it: the object has a status.
    pub accepted: Option<Predicate>,
    /// The point in time is fixed. Without it: when it is ready.
    pub cut: Option<Predicate>,
    /// It can be restored.
    pub ready: Option<Predicate>,
    /// It will never be ready.
    pub failed: Option<Predicate>,
    /// An error that the system goes on trying to overcome.
    pub retryable: Option<Predicate>,
    /// The system chose not to do it.
    pub skipped: Option<Predicate>,
}

/// What it means when an object that was there is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It failed.
    Failed,
    /// It may come back: the deadline decides.
    Pending,
}

/// One part of what is kept of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Handle {
    /// Where it is.
    pub from: Ref,
    /// The text found is JSON, or lines of which the last that is JSON counts: where it is in that.
    pub json: Option<Ref>,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// From the trigger to the controller's first word.
    pub accept: Option<Duration>,
    /// From the trigger to the fixed point in time.
    pub cut: Option<Duration>,
    /// From the trigger to ready.
    pub ready: Option<Duration>,
    /// How long an error may stay that the system tries to overcome.
    pub error_grace: Option<Duration>,
    /// The whole run.
    pub total: Option<Duration>,
}

/// What happens to a trigger that was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again {
    /// How often it is triggered anew, under another name.
    pub times: u32,
    /// The wait before.
    pub after: Duration,
}

/// How a snapshot is restored.
#[derive(Clone, Debug)]
pub struct Restore {
    /// Into what.
    pub mode: RestoreMode,
    /// What must be true of the place first.
    pub needs: Vec<Need>,
    /// Reads before it.
    pub resolve: Vec<Resolve>,
    /// Its triggers, in order.
    pub steps: Vec<Step>,
    /// What an operator must still do, for people.
    pub by_hand: String,
}

/// Into what a snapshot is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreMode {
    /// A new claim.
    NewPvc,
    /// The claim it was taken of.
    InPlace,
    /// An application as the backup system knows it.
    App,
    /// Not by an API: `byHand` says how.
    Manual,
}

/// What must be true of the place before a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// No pod uses the claim.
    Detached,
    /// The claim does not exist.
    PvcAbsent,
    /// The pod that reads it runs on the node of the old volume.
    SameNode,
    /// The new claim has exactly the size of the snapshot.
    SameSize,
}

/// How a snapshot is deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Delete {
    /// By what.
    pub by: DeleteBy,
    /// Whether a run that never got a snapshot may delete what it triggered.
    pub abandoned: bool,
}

/// By what a snapshot is deleted.
#[derive(Clone, Debug, PartialEq)]
pub enum DeleteBy {
    /// Deleting objects, in this order.
    Objects(Vec<Lookup>),
    /// An object that asks the system to.
    Ask(Box<AskToDelete>),
    /// A change to an object.
    Patch(Box<Change>),
    /// It stays; the text says who deletes it.
    Nothing(String),
}

/// An object that asks the system to delete, and how its end is seen.
#[derive(Clone, Debug, PartialEq)]
pub struct AskToDelete {
    /// Reads before it.
    pub resolve: Vec<Resolve>,
    /// The object.
    pub object: NewObject,
    /// What is not there any more when it is done.
    pub gone: Vec<Lookup>,
    /// It is done: asked of the object. Without this and `gone` nobody waits.
    pub done: Option<Predicate>,
    /// The request failed: asked of the object.
    pub failed: Option<Predicate>,
    /// Where the object says what is wrong.
    pub message: Vec<Ref>,
    /// How long is waited.
    pub wait: Duration,
}

/// A right that is needed.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// A name of `kinds`.
    pub kind: String,
    /// A part of it, as `log`.
    pub subresource: Option<String>,
    /// What may be done.
    pub verbs: Vec<String>,
    /// Template; none for a kind of the cluster, or for the claim's namespace.
    pub namespace: Option<Value>,
    /// For what.
    pub purpose: Purpose,
}

/// What a right is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Taking and checking a snapshot.
    Take,
    /// Restoring one.
    Restore,
    /// Deleting one.
    Delete,
}

#[cfg(test)]
mod tests;
