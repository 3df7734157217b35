#![forbid(unsafe_code)]
use pyo3::prelude::*;

#[pymodule]
fn wardgate_native(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
