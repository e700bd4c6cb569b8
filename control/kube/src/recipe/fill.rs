//! Fills templates, value by value.
//!
//! `{{name}}`, `{{name.key.key}}` and `{{name:$.json.path}}` stand for values. A text that is one template becomes that
//! value with its type; inside a longer text only texts, numbers and yes/no may stand. `{{…?}}` may be missing: the
//! map entry or list item that it is falls away. Nothing that is filled in is ever parsed again.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::predicate::{Op, Path, Predicate, Ref};

/// Values by name.
pub type Vars = BTreeMap<String, Value>;

/// Why a template could not be filled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    /// It is not a template.
    #[error("`{{{{{0}}}}}` is no template: {1}")]
    Malformed(String, String),
    /// What it names is not there.
    #[error("nothing is there for `{{{{{0}}}}}`")]
    Missing(String),
    /// A map or list inside a text.
    #[error("`{{{{{0}}}}}` is not a text, and stands inside one")]
    NotText(String),
    /// It opens and does not close.
    #[error("`{0}` opens a template that it does not close")]
    Open(String),
}

/// One piece of a text.
#[derive(Debug, PartialEq)]
pub(super) enum Piece<'t> {
    Text(&'t str),
    Hole(Hole),
}

/// A place to be filled.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Hole {
    pub(super) text: String,
    pub(super) name: String,
    at: Place,
    pub(super) optional: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Place {
    Keys(Vec<String>),
    Path(Path),
}

impl Hole {
    fn parse(text: &str) -> Result<Self, FillError> {
        let malformed = |why: &str| FillError::Malformed(text.to_owned(), why.to_owned());
        let trimmed = text.trim();
        let (inner, optional) = match trimmed.strip_suffix('?') {
            Some(inner) => (inner.trim_end(), true),
            None => (trimmed, false),
        };
        let (name, at) = if let Some((name, path)) = inner.split_once(':') {
            (
                name,
                Place::Path(Path::parse(path).map_err(|why| malformed(&why))?),
            )
        } else {
            let mut keys = inner.split('.').map(str::to_owned);
            let name = keys.next().unwrap_or_default();
            let keys: Vec<String> = keys.collect();
            if keys.iter().any(String::is_empty) {
                return Err(malformed("a key is empty"));
            }
            return Self::named(text, &name, Place::Keys(keys), optional);
        };
        Self::named(text, name, at, optional)
    }

    fn named(text: &str, name: &str, at: Place, optional: bool) -> Result<Self, FillError> {
        if !crate::predicate::is_name(name) {
            let why = format!("`{name}` cannot name a variable");
            return Err(FillError::Malformed(text.to_owned(), why));
        }
        Ok(Self {
            text: text.trim().to_owned(),
            name: name.to_owned(),
            at,
            optional,
        })
    }

    /// The first key after the name, as `className` in `params.className`.
    pub(super) fn first_key(&self) -> Option<&str> {
        match &self.at {
            Place::Keys(keys) => keys.first().map(String::as_str),
            Place::Path(_) => None,
        }
    }

    fn value(&self, vars: &Vars) -> Option<Value> {
        let variable = vars.get(&self.name)?;
        match &self.at {
            Place::Path(path) => path.select(variable).first().map(|found| (*found).clone()),
            Place::Keys(keys) => keys
                .iter()
                .try_fold(variable, |value, key| value.get(key.as_str()))
                .cloned(),
        }
        .filter(|value| !value.is_null())
    }
}

/// The pieces of a text.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece<'_>>, FillError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((hole, after)) = after.split_once("}}") else {
            return Err(FillError::Open(text.to_owned()));
        };
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        pieces.push(Piece::Hole(Hole::parse(hole)?));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

/// The value of a template; null when it may be missing and is.
pub fn fill(template: &Value, vars: &Vars) -> Result<Value, FillError> {
    match template {
        Value::String(text) => fill_string(text, vars),
        Value::Array(list) => {
            let mut filled = Vec::with_capacity(list.len());
            for item in list {
                let value = fill(item, vars)?;
                if item.is_null() || !value.is_null() {
                    filled.push(value);
                }
            }
            Ok(Value::Array(filled))
        }
        Value::Object(map) => {
            let mut filled = Map::new();
            for (key, item) in map {
                let value = fill(item, vars)?;
                if item.is_null() || !value.is_null() {
                    let key = fill_text(&Value::String(key.clone()), vars)?;
                    filled.insert(key, value);
                }
            }
            Ok(Value::Object(filled))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(template.clone()),
    }
}

/// The text of a template: a number and yes/no become text; a map or a list is an error.
pub fn fill_text(template: &Value, vars: &Vars) -> Result<String, FillError> {
    match fill(template, vars)? {
        Value::String(text) => Ok(text),
        Value::Null => Ok(String::new()),
        other @ (Value::Bool(_) | Value::Number(_)) => Ok(other.to_string()),
        Value::Array(_) | Value::Object(_) => Err(FillError::NotText(template.to_string())),
    }
}

fn fill_string(text: &str, vars: &Vars) -> Result<Value, FillError> {
    let pieces = pieces(text)?;
    if let [Piece::Hole(hole)] = pieces.as_slice() {
        return match hole.value(vars) {
            Some(value) => Ok(value),
            None if hole.optional => Ok(Value::Null),
            None => Err(FillError::Missing(hole.text.clone())),
        };
    }
    let mut filled = String::with_capacity(text.len());
    for piece in &pieces {
        match piece {
            Piece::Text(text) => filled.push_str(text),
            Piece::Hole(hole) => match hole.value(vars) {
                Some(Value::String(text)) => filled.push_str(&text),
                Some(other @ (Value::Bool(_) | Value::Number(_))) => {
                    filled.push_str(&other.to_string());
                }
                Some(_) => return Err(FillError::NotText(hole.text.clone())),
                None if hole.optional => {}
                None => return Err(FillError::Missing(hole.text.clone())),
            },
        }
    }
    Ok(Value::String(filled))
}

/// A question with its values filled.
pub fn fill_predicate(predicate: &Predicate, vars: &Vars) -> Result<Predicate, FillError> {
    let all = |list: &[Predicate]| -> Result<Vec<Predicate>, FillError> {
        list.iter().map(|one| fill_predicate(one, vars)).collect()
    };
    Ok(match predicate {
        Predicate::All(list) => Predicate::All(all(list)?),
        Predicate::Any(list) => Predicate::Any(all(list)?),
        Predicate::Not(inner) => Predicate::Not(Box::new(fill_predicate(inner, vars)?)),
        Predicate::Leaf { at, op } => Predicate::Leaf {
            at: Ref::clone(at),
            op: fill_op(op, vars)?,
        },
        Predicate::Each { of, that, count_ge } => Predicate::Each {
            of: of.clone(),
            that: Box::new(fill_predicate(that, vars)?),
            count_ge: fill(count_ge, vars)?,
        },
        Predicate::Bind { .. } => predicate.clone(),
    })
}

fn fill_op(op: &Op, vars: &Vars) -> Result<Op, FillError> {
    let one = |value: &Value| fill(value, vars);
    let list = |values: &[Value]| values.iter().map(one).collect::<Result<Vec<_>, _>>();
    Ok(match op {
        Op::Eq(value) => Op::Eq(one(value)?),
        Op::Ne(value) => Op::Ne(one(value)?),
        Op::In(values) => Op::In(list(values)?),
        Op::NotIn(values) => Op::NotIn(list(values)?),
        Op::Exists(value) => Op::Exists(one(value)?),
        Op::NonEmpty(value) => Op::NonEmpty(one(value)?),
        Op::Ge(value) => Op::Ge(one(value)?),
        Op::CountGe(value) => Op::CountGe(one(value)?),
        Op::Contains(values) => Op::Contains(list(values)?),
        Op::StartsWith(values) => Op::StartsWith(list(values)?),
    })
}
