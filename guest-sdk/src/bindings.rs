//! What `wit-bindgen` makes of the contract.
#![allow(missing_docs, missing_debug_implementations, unreachable_pub, clippy::all, reason = "generated")]

wit_bindgen::generate!({
    world: "policy",
    path: "wit",
    pub_export_macro: true,
    export_macro_name: "export_policy",
    default_bindings_module: "lockkeeper_sdk::bindings",
    additional_derives: [PartialEq],
});
