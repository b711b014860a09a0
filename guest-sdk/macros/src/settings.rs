//! `#[settings]`: serde's derive with the contract's conventions, and the JSON Schema of the same definition.
//!
//! The schema is written out here, not derived by the schemars crate: in a guest that crate weighs 125 KB, as much as
//! everything else together, and this weighs the text of the schema.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Data, DeriveInput, Error, Expr, ExprLit, Field, Fields, Lit, Meta, Result};

pub(crate) fn expand(item: &DeriveInput) -> Result<TokenStream> {
    let body = match &item.data {
        Data::Struct(data) => object(item, &data.fields)?,
        Data::Enum(data) => choice(data.variants.iter())?,
        Data::Union(_) => return Err(Error::new_spanned(item, "settings are a struct, or an enum without fields")),
    };
    let name = &item.ident;
    // Without fields there is nothing to read: such a policy carries no reader.
    let read = match &item.data {
        Data::Struct(data) if data.fields.is_empty() => {
            quote! { ::lockkeeper_sdk::reexport::nothing(json).map(|()| Self {}) }
        }
        _ => quote! { ::lockkeeper_sdk::reexport::read(json) },
    };
    let unknown = match &item.data {
        Data::Struct(_) => quote! { , deny_unknown_fields },
        _ => quote! {},
    };
    Ok(quote! {
        #[derive(::core::fmt::Debug, ::core::clone::Clone, ::lockkeeper_sdk::reexport::serde::Deserialize)]
        #[serde(crate = "::lockkeeper_sdk::reexport::serde", rename_all = "kebab-case" #unknown)]
        #item

        impl ::lockkeeper_sdk::Settings for #name {
            fn read(json: &str) -> ::core::result::Result<Self, ::std::string::String> {
                #read
            }
        }

        impl ::lockkeeper_sdk::Schema for #name {
            fn write_schema(out: &mut ::std::string::String) {
                #body
            }
        }
    })
}

fn object(item: &DeriveInput, fields: &Fields) -> Result<TokenStream> {
    let all_default = serde_words(&item.attrs)?.default;
    let named: Vec<&Field> = match fields {
        Fields::Named(fields) => fields.named.iter().collect(),
        Fields::Unit | Fields::Unnamed(_) => {
            return Err(Error::new_spanned(item, "settings are a struct with named fields: write `struct Name {}`"));
        }
    };
    let mut writes = Vec::new();
    let mut required = Vec::new();
    for (index, field) in named.iter().enumerate() {
        let words = serde_words(&field.attrs)?;
        let ident = field.ident.as_ref().expect("a named field has a name").to_string();
        let key = words.rename.unwrap_or_else(|| ident.trim_start_matches("r#").replace('_', "-"));
        let comma = if index == 0 { "" } else { "," };
        let before = format!("{comma}{}:{{{}", json(&key), description(&field.attrs));
        let kind = &field.ty;
        writes.push(quote! {
            out.push_str(#before);
            <#kind as ::lockkeeper_sdk::Schema>::write_schema(out);
            out.push('}');
        });
        if !words.default && !all_default {
            let key = json(&key);
            required.push(quote! {
                if <#kind as ::lockkeeper_sdk::Schema>::REQUIRED {
                    if !first { out.push(','); }
                    first = false;
                    out.push_str(#key);
                }
            });
        }
    }
    let open =
        format!("{}\"type\":\"object\",\"additionalProperties\":false,\"properties\":{{", description(&item.attrs));
    Ok(quote! {
        out.push_str(#open);
        #(#writes)*
        out.push_str("},\"required\":[");
        #[allow(unused_mut, unused_variables, unused_assignments)]
        let mut first = true;
        #(#required)*
        out.push(']');
    })
}

fn choice<'a>(variants: impl Iterator<Item = &'a syn::Variant>) -> Result<TokenStream> {
    let mut names = Vec::new();
    for variant in variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(Error::new_spanned(variant, "a choice in settings has no fields"));
        }
        let renamed = serde_words(&variant.attrs)?.rename;
        names.push(json(&renamed.unwrap_or_else(|| kebab(&variant.ident.to_string()))));
    }
    let text = format!("\"type\":\"string\",\"enum\":[{}]", names.join(","));
    Ok(quote! { out.push_str(#text); })
}

/// What serde's attributes on a field say, as far as a schema shows it.
#[derive(Default)]
struct SerdeWords {
    rename: Option<String>,
    default: bool,
}

fn serde_words(attributes: &[Attribute]) -> Result<SerdeWords> {
    let mut words = SerdeWords::default();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("default") {
                words.default = true;
                if meta.input.peek(syn::Token![=]) {
                    meta.value()?.parse::<Expr>()?;
                }
            } else if meta.path.is_ident("rename") {
                words.rename = Some(meta.value()?.parse::<syn::LitStr>()?.value());
            } else {
                return Err(meta.error("in settings only `default` and `rename` are understood: the schema would lie"));
            }
            Ok(())
        })?;
    }
    Ok(words)
}

/// `"description":"…",` of a doc comment, or nothing.
fn description(attributes: &[Attribute]) -> String {
    let lines: Vec<String> = attributes
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
                Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        })
        .collect();
    match lines.is_empty() {
        true => String::new(),
        false => format!("\"description\":{},", json(lines.join(" ").trim())),
    }
}

fn kebab(camel: &str) -> String {
    let mut out = String::new();
    for (index, c) in camel.chars().enumerate() {
        if c.is_uppercase() && index > 0 {
            out.push('-');
        }
        out.extend(c.to_lowercase());
    }
    out
}

fn json(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
