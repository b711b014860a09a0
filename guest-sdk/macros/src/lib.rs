//! The attributes of `lockkeeper-sdk`. Use them from there: they name its paths.

mod policy;
mod settings;

use proc_macro::TokenStream;
use syn::parse_macro_input;

/// Makes a struct, or an enum without fields, the settings of a policy or a part of them: read by serde from the job's
/// `[policy.settings]`, with a JSON Schema from the same definition.
///
/// Keys are kebab-case, an unknown one is an error, and a field that is an `Option` or carries `#[serde(default)]` may
/// be left out. Doc comments become the schema's descriptions. Of serde's other attributes `rename` and `default` are
/// understood; what would make the schema lie is refused.
#[proc_macro_attribute]
pub fn settings(_: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::DeriveInput);
    settings::expand(&item).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Exports an `impl Orchestrator for …` as the component's driver. The manifest's name, version and summary are the crate's.
#[proc_macro_attribute]
pub fn orchestrator(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::ItemImpl);
    policy::of_orchestrator(&arguments.into(), &item).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Exports an `impl Policy for …` as the component's decider.
///
/// The manifest's name, version and summary are the crate's. The verdicts that the policy may ever return are listed in
/// the attribute where it returns more than `lock`, `wait` and `release`: `#[policy("lock", "wait", "hold")]`. A verdict
/// outside the list is a policy fault.
///
/// A policy without settings and memory may be a function alone, `#[policy] fn one_by_one(view: &View) -> Admitted { … }`:
/// it is what `admit` does.
#[proc_macro_attribute]
pub fn policy(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::Item);
    policy::expand(arguments.into(), &item).unwrap_or_else(syn::Error::into_compile_error).into()
}
