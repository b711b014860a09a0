//! What `wit-bindgen` makes of `world orchestrator`.
#![allow(missing_docs, missing_debug_implementations, unreachable_pub, clippy::all, reason = "generated")]

wit_bindgen::generate!({
    world: "lockkeeper:orchestration/orchestrator",
    path: ["wit", "wit-orchestration"],
    pub_export_macro: true,
    export_macro_name: "export_orchestrator",
    default_bindings_module: "lockkeeper_sdk::orchestration::bindings",
    with: {
        "lockkeeper:policy/types@1.0.0": crate::bindings::lockkeeper::policy::types,
        "lockkeeper:policy/trace@1.0.0": crate::bindings::lockkeeper::policy::trace,
    },
    additional_derives: [PartialEq],
});
