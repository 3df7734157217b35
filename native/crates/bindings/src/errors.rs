//! Rust's errors as Python's exceptions.

use std::io;

use pyo3::PyErr;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use wardgate_datapath::command::Refused;
use wardgate_io::NoAnswer;

pyo3::create_exception!(wardgate_native, CommandRefused, PyValueError);

pub fn refused(error: Refused) -> PyErr {
    CommandRefused::new_err(error.to_string())
}

/// With `errno` where the kernel gave one, so that Python picks the subclass of `OSError`.
pub fn os_error(error: io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(errno) => PyOSError::new_err((errno, error.to_string())),
        None => PyOSError::new_err(error.to_string()),
    }
}

pub fn no_answer(error: NoAnswer) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}
