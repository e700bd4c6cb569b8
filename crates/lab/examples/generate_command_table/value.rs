//! A reply as a value: just enough of RESP2 to read what COMMAND answers.

use std::error::Error;

/// One reply.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Failure(String),
    Integer(i64),
    Array(Vec<Value>),
    Null,
}

impl Value {
    /// Reads one value of a frame that the scanner has found complete.
    pub(crate) fn read(frame: &mut &[u8]) -> Result<Value, Box<dyn Error>> {
        let line = take_line(frame)?;
        let (marker, rest) = line.split_at_checked(1).ok_or("empty line")?;
        Ok(match marker {
            "+" => Value::Text(rest.to_owned()),
            "-" => Value::Failure(rest.to_owned()),
            ":" => Value::Integer(rest.parse()?),
            "$" if rest == "-1" => Value::Null,
            "$" => {
                let length: usize = rest.parse()?;
                let (bulk, behind) = frame.split_at_checked(length + 2).ok_or("short bulk")?;
                *frame = behind;
                Value::Text(String::from_utf8_lossy(&bulk[..length]).into_owned())
            }
            "*" if rest == "-1" => Value::Null,
            "*" => {
                let count: usize = rest.parse()?;
                Value::Array(
                    (0..count)
                        .map(|_| Value::read(frame))
                        .collect::<Result<_, _>>()?,
                )
            }
            other => return Err(format!("reply type {other}").into()),
        })
    }

    /// The elements; none for anything but an array.
    pub(crate) fn elements(&self) -> &[Value] {
        if let Value::Array(elements) = self {
            elements
        } else {
            &[]
        }
    }

    /// The text; empty for anything else.
    pub(crate) fn text(&self) -> &str {
        if let Value::Text(text) = self {
            text
        } else {
            ""
        }
    }

    /// The number; 0 for anything else.
    pub(crate) fn integer(&self) -> i64 {
        if let Value::Integer(value) = self {
            *value
        } else {
            0
        }
    }

    /// The value behind a name in a flat array of names and values.
    pub(crate) fn field(&self, name: &str) -> Option<&Value> {
        self.elements()
            .chunks_exact(2)
            .find(|pair| pair[0].text() == name)
            .map(|pair| &pair[1])
    }

    /// Names and values of a flat array.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.elements()
            .chunks_exact(2)
            .map(|pair| (pair[0].text(), &pair[1]))
    }
}

fn take_line<'a>(frame: &mut &'a [u8]) -> Result<&'a str, Box<dyn Error>> {
    let end = frame
        .windows(2)
        .position(|two| two == b"\r\n")
        .ok_or("no line end")?;
    let (line, rest) = frame.split_at(end);
    *frame = &rest[2..];
    Ok(std::str::from_utf8(line)?)
}
