//! `#[policy]`: the description and the export of an `impl Policy`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{Error, Item, ItemFn, ItemImpl, LitStr, Result, Token, parse_quote};

/// Every verdict of the contract, as a manifest spells it.
const VERDICTS: [&str; 10] =
    ["lock", "wait", "hold", "force", "skip", "abort", "release", "keep", "retry", "roll-back"];

pub(crate) fn expand(arguments: TokenStream, item: &Item) -> Result<TokenStream> {
    match item {
        Item::Impl(item) => of_impl(arguments, item),
        Item::Fn(item) => of_function(arguments, item),
        item => {
            Err(Error::new_spanned(item, "a policy is an `impl Policy for …`, or a function `fn(&View) -> Admitted`"))
        }
    }
}

/// A function is a policy without settings.
fn of_function(arguments: TokenStream, item: &ItemFn) -> Result<TokenStream> {
    if item.sig.inputs.len() != 1 {
        return Err(Error::new_spanned(&item.sig.inputs, "a policy's function takes one argument, the `&View`"));
    }
    let ask = &item.sig.ident;
    let name = format_ident!("__{ask}", span = ask.span());
    let policy = of_impl(
        arguments,
        &parse_quote! {
            impl ::lockkeeper_sdk::Policy for #name {
                fn admit(
                    &self,
                    view: &::lockkeeper_sdk::View,
                    _: &mut ::lockkeeper_sdk::Memory,
                ) -> ::lockkeeper_sdk::Admitted {
                    #ask(view)
                }
            }
        },
    )?;
    Ok(quote! {
        #item

        #[allow(non_camel_case_types)]
        #[::lockkeeper_sdk::settings]
        struct #name {}

        #policy
    })
}

/// An `impl` with its description.
fn described(item: &ItemImpl, verdicts: &TokenStream) -> TokenStream {
    let name = &item.self_ty;
    quote! {
        #item

        // Natively nothing but tests makes one: without this a private struct would be told to be dead code.
        #[cfg(not(target_arch = "wasm32"))]
        const _: ::core::option::Option<#name> = ::core::option::Option::None;

        impl ::lockkeeper_sdk::Described for #name {
            const DESCRIPTION: ::lockkeeper_sdk::Description = ::lockkeeper_sdk::Description {
                name: ::core::env!("CARGO_PKG_NAME"),
                version: ::core::env!("CARGO_PKG_VERSION"),
                summary: ::core::env!("CARGO_PKG_DESCRIPTION"),
                verdicts: #verdicts,
            };
        }
    }
}

/// An orchestration answers with no verdicts.
pub(crate) fn of_orchestrator(arguments: &TokenStream, item: &ItemImpl) -> Result<TokenStream> {
    if !arguments.is_empty() {
        return Err(Error::new_spanned(arguments, "an orchestration has no verdicts to list"));
    }
    let name = &item.self_ty;
    let described = described(item, &quote! { &[] });
    Ok(quote! {
        #described

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = ::lockkeeper_sdk::orchestration::Export<#name>;
            ::lockkeeper_sdk::orchestration::bindings::export_orchestrator!(
                Exported with_types_in ::lockkeeper_sdk::orchestration::bindings
            );
        };
    })
}

fn of_impl(arguments: TokenStream, item: &ItemImpl) -> Result<TokenStream> {
    let verdicts = Punctuated::<LitStr, Token![,]>::parse_terminated.parse2(arguments)?;
    if let Some(unknown) = verdicts.iter().find(|verdict| !VERDICTS.contains(&verdict.value().as_str())) {
        let message = format!("no verdict `{}`: expected one of {}", unknown.value(), VERDICTS.join(", "));
        return Err(Error::new(unknown.span(), message));
    }
    let verdicts: Vec<_> = verdicts.iter().collect();
    let verdicts = match verdicts.is_empty() {
        true => quote! { ::lockkeeper_sdk::DEFAULT_VERDICTS },
        false => quote! { &[#(#verdicts),*] },
    };
    let name = &item.self_ty;
    let described = described(item, &verdicts);
    Ok(quote! {
        #described

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = ::lockkeeper_sdk::Export<#name>;
            ::lockkeeper_sdk::bindings::export_policy!(Exported with_types_in ::lockkeeper_sdk::export::lean);
        };
    })
}
