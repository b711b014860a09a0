//! A module's function names, made short: a backtrace shows them, and mangled they are a third of a small policy's bytes.

use wasm_encoder::{CustomSection, NameMap, NameSection, RawSection, Section};
use wasmparser::{BinaryReader, Name, NameSectionReader, Parser, Payload};

/// The longest name kept, in characters.
const MAX_NAME: usize = 90;

/// The module with its names demangled and without type arguments, and without names of what every panic goes through. None:
/// it cannot be read, and is left to whoever says why.
#[must_use]
pub fn with_short_names(module: &[u8]) -> Option<Vec<u8>> {
    let mut out = wasm_encoder::Module::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.ok()?;
        match &payload {
            Payload::CustomSection(custom) if custom.name() == "name" => {
                let reader = NameSectionReader::new(BinaryReader::new(custom.data(), custom.data_offset()));
                out.section(&short(reader)?);
            }
            // What the linker and the compiler leave of themselves.
            Payload::CustomSection(custom) if ["producers", "target_features"].contains(&custom.name()) => {}
            Payload::CustomSection(custom) => {
                out.section(&CustomSection { name: custom.name().into(), data: custom.data().into() });
            }
            _ => {
                if let Some((id, range)) = payload.as_section() {
                    let range = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
                    out.section(&RawSection { id, data: module.get(range)? });
                }
            }
        }
    }
    Some(out.finish())
}

/// The component without the names of its own parts, which only who debugs components reads. What cannot be read stays.
#[must_use]
pub fn without_component_names(component: Vec<u8>) -> Vec<u8> {
    const HEADER: usize = 8;
    let mut out = component.get(..HEADER).unwrap_or_default().to_vec();
    let mut reader = BinaryReader::new(component.get(HEADER..).unwrap_or_default(), HEADER as u64);
    while !reader.eof() {
        let mut section = || -> wasmparser::Result<(u8, &[u8])> {
            let id = reader.read_u8()?;
            let length = reader.read_var_u32()?;
            Ok((id, reader.read_bytes(length as usize)?))
        };
        let Ok((id, data)) = section() else { return component };
        let is_names = id == 0 && BinaryReader::new(data, 0).read_string().is_ok_and(|name| name == "component-name");
        if !is_names {
            RawSection { id, data }.append_to(&mut out);
        }
    }
    out
}

fn short(reader: NameSectionReader<'_>) -> Option<NameSection> {
    let mut functions = NameMap::new();
    for name in reader {
        // Those of globals, data and types help nobody.
        if let Name::Function(names) = name.ok()? {
            for naming in names {
                let naming = naming.ok()?;
                if let Some(name) = shortened(naming.name) {
                    functions.append(naming.index, &name);
                }
            }
        }
    }
    let mut section = NameSection::new();
    section.functions(&functions);
    Some(section)
}

/// A function's name as a backtrace shows it; none: it would be left out there.
fn shortened(mangled: &str) -> Option<String> {
    let whole = format!("{:#}", rustc_demangle::demangle(mangled));
    let of_std = [
        "core::",
        "std::",
        "alloc::",
        "__rust",
        "rust_",
        "compiler_builtins::",
        "dlmalloc::",
        "<core::",
        "<alloc::",
        "<std::",
    ];
    if of_std.iter().any(|of| whole.starts_with(of)) {
        return None;
    }
    let mut short = String::new();
    let mut depth = 0_usize;
    let mut rest = whole.as_str();
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("::<") {
            depth += 1;
            rest = &rest[3..];
            continue;
        }
        match c {
            '<' if depth > 0 => depth += 1,
            '>' if depth > 0 => depth -= 1,
            _ if depth > 0 => {}
            c => short.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    Some(short.chars().take(MAX_NAME).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_a_person_would_say() {
        assert_eq!(
            shortened("_RNvNtCshdwgG4l3Kge_14lockkeeper_sdk5rules5floor").unwrap(),
            "lockkeeper_sdk::rules::floor"
        );
        assert_eq!(
            shortened("_RINvNtCshdwgG4l3Kge_14lockkeeper_sdk6export4readNtCsePAxqQCUJy0_13leave_a_pause5PauseEBM_")
                .unwrap(),
            "lockkeeper_sdk::export::read"
        );
        assert_eq!(
            shortened("_RNvXs_CsePAxqQCUJy0_13leave_a_pauseNtB4_5PauseNtCshdwgG4l3Kge_14lockkeeper_sdk6Policy5admit")
                .unwrap(),
            "<leave_a_pause::Pause as lockkeeper_sdk::Policy>::admit"
        );
        assert_eq!(shortened("_RNvNtCsK6HhaGLSff_4core3str19slice_error_fail_rt"), None);
        assert_eq!(shortened("cabi_realloc").unwrap(), "cabi_realloc");
    }
}
