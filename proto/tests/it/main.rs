//! Behaviour tests of `ketch-proto`.

mod errors;
mod fresh;
mod generator;
mod known_fields;
mod paths;
mod strict;
