//! Export of specs to files of other programs. Pure: the specs have been read, and what is returned is printed by
//! `render`.

pub mod compose;
