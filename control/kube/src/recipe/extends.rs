//! A recipe that extends another says only what differs.

use serde_json::Value;

/// `over` laid upon `base`: maps merge key by key, null removes, everything else replaces.
#[must_use]
pub fn merge(base: &Value, over: &Value) -> Value {
    let (Value::Object(base), Value::Object(over)) = (base, over) else {
        return over.clone();
    };
    let mut merged = base.clone();
    for (key, value) in over {
        if value.is_null() {
            merged.shift_remove(key);
        } else if let Some(below) = base.get(key) {
            merged.insert(key.clone(), merge(below, value));
        } else {
            merged.insert(key.clone(), value.clone());
        }
    }
    Value::Object(merged)
}
