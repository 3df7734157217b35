//! The Python module `wardgate_native`: the engines, their arguments and results converted, and nothing else.
//!
//! The stub `native/wardgate_native.pyi` says what each name does. Commands and events cross as JSON, batches as lists; the
//! GIL is released while a hosted engine is waited for.
#![forbid(unsafe_code)]

mod clock;
mod errors;
mod recorder;
mod relay_engine;
mod relay_host;
mod tunnel_engine;
mod tunnel_host;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use wardgate_datapath::command::Key;
use wardgate_datapath::tunnel;

#[pymodule]
fn wardgate_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add(
        "CommandRefused",
        module.py().get_type::<errors::CommandRefused>(),
    )?;
    module.add_function(wrap_pyfunction!(generate_private_key, module)?)?;
    module.add_function(wrap_pyfunction!(public_key, module)?)?;
    module.add_class::<tunnel_engine::TunnelEngine>()?;
    module.add_class::<tunnel_host::TunnelHost>()?;
    module.add_class::<relay_engine::RelayEngine>()?;
    module.add_class::<relay_host::RelayHost>()?;
    Ok(())
}

#[pyfunction]
fn generate_private_key() -> PyResult<String> {
    let mut key = Key([0; 32]);
    wardgate_io::fill_random(&mut key.0).map_err(errors::os_error)?;
    Ok(key.encode())
}

#[pyfunction]
#[pyo3(signature = (private_key, /))]
fn public_key(private_key: &str) -> PyResult<String> {
    Ok(tunnel::public_key(&parse_key(private_key)?).encode())
}

fn parse_key(text: &str) -> PyResult<Key> {
    Key::parse(text).ok_or_else(|| PyValueError::new_err("a key is base64 of 32 bytes"))
}

fn parse_role(text: &str) -> PyResult<tunnel::Role> {
    match text {
        "client" => Ok(tunnel::Role::Client),
        "gateway" => Ok(tunnel::Role::Gateway),
        _ => Err(PyValueError::new_err(
            "role is neither \"client\" nor \"gateway\"",
        )),
    }
}
