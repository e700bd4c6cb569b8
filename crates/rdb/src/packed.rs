//! The compact forms of small collections: listpack, ziplist, intset, zipmap. Each comes as one string and gives its elements.

mod intset;
mod listpack;
mod ziplist;
mod zipmap;

pub(crate) use intset::intset;
pub(crate) use listpack::{Element, Listpack, listpack};
pub(crate) use ziplist::ziplist;
pub(crate) use zipmap::zipmap;
