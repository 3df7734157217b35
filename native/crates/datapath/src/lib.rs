#![forbid(unsafe_code)]
pub mod relay;
pub mod tunnel;
