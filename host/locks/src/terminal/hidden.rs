//! The characters that a terminal obeys, or does not show.

use std::ops::RangeInclusive;

use unicode_general_category::{GeneralCategory, get_general_category};

/// What Unicode calls default-ignorable, or no character at all, although its category says otherwise: shown as nothing, so
/// that two different names look the same and a text can carry another unseen.
const INVISIBLE: [RangeInclusive<char>; 10] = [
    // The combining grapheme joiner.
    '\u{34f}'..='\u{34f}',
    // Hangul and Khmer letters without a shape.
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    // Mongolian and other variation selectors.
    '\u{180b}'..='\u{180f}',
    '\u{2065}'..='\u{2065}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fff8}',
    // Tags, more variation selectors, and what is reserved for their like.
    '\u{e0000}'..='\u{e0fff}',
];

/// Whether a terminal obeys a character or shows nothing for it: C0 and C1 controls, DEL, marks of direction, separators of
/// lines and paragraphs, characters without a width, tags, and noncharacters.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    let category = get_general_category(c);
    let is_obeyed = matches!(
        category,
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    );
    is_obeyed || u32::from(c) & 0xfffe == 0xfffe || INVISIBLE.iter().any(|range| range.contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_or_does_not_show_is_hidden() {
        for hidden in [
            '\0'..='\u{1f}',
            '\u{7f}'..='\u{9f}',
            '\u{ad}'..='\u{ad}',
            '\u{61c}'..='\u{61c}',
            '\u{180b}'..='\u{180f}',
            '\u{200b}'..='\u{200f}',
            '\u{2028}'..='\u{202e}',
            '\u{2060}'..='\u{206f}',
            '\u{feff}'..='\u{feff}',
            '\u{fff9}'..='\u{fffb}',
            '\u{fffe}'..='\u{ffff}',
            '\u{1d173}'..='\u{1d17a}',
            '\u{e0001}'..='\u{e007f}',
            '\u{e0100}'..='\u{e01ef}',
            '\u{10fffe}'..='\u{10ffff}',
        ] {
            for c in hidden {
                assert!(is_hidden(c), "{c:?}");
            }
        }
    }

    #[test]
    fn what_is_seen_is_not_hidden() {
        for c in " ~aé€ß日本한한🚀→…│×●\u{a0}\u{301}\u{3000}\u{fffd}".chars() {
            assert!(!is_hidden(c), "{c:?}");
        }
    }
}
