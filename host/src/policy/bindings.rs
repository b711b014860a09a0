//! What wasmtime makes of the contract; nothing else.
#![allow(missing_docs, missing_debug_implementations, unreachable_pub, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../guest-sdk/wit",
    world: "policy",
    with: { "lockkeeper:policy/types": types },
});

/// The records are our own; what else `bindgen!` asks of an interface without functions is empty.
pub mod types {
    pub use crate::policy::types::*;

    pub trait Host {}
    impl<T: ?Sized> Host for T {}

    pub trait HostWithStore<T> {}
    impl<T, D: ?Sized> HostWithStore<T> for D {}

    pub fn add_to_linker<T, D: wasmtime::component::HasData>(
        _: &mut wasmtime::component::Linker<T>,
        _: fn(&mut T) -> D::Data<'_>,
    ) -> wasmtime::Result<()> {
        Ok(())
    }
}
