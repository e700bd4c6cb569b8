//! The decoder against what real servers wrote, sound and damaged.

#[cfg(test)]
mod golden;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod support;
