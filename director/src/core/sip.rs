//! SIP (RFC 3261), as far as persistence needs it: which call a message belongs to (`ip_vs_pe_sip.c`).
//!
//! A message is a line that says what it is, and headers; a line that begins with a blank goes on with the one before
//! it. The value of `Call-ID`, or `i` in its compact form, is a word, or two with `@` between them (section 25.1).

/// The Call-ID of a message: the value of the first such header that has one. None if there is none, if it is longer
/// than [`LONGEST`] bytes, or if the line does not end behind it.
pub fn call_id(message: &[u8]) -> Option<&[u8]> {
    let mut rest = message;
    loop {
        let end = rest.iter().position(|&byte| is_line_end(byte))?;
        rest = past_line_end(&rest[end..])?;
        let value = value_of_call_id(rest).unwrap_or_default();
        let length = length_of_call_id(value);
        if length > 0 {
            let ends = value.get(length).is_some_and(|&byte| is_line_end(byte));
            return value.get(..length).filter(|_| ends && length <= LONGEST);
        }
    }
}

/// What follows the name, the colon and blanks, if the text begins with that header.
fn value_of_call_id(text: &[u8]) -> Option<&[u8]> {
    let names = [&b"call-id"[..], b"i"].into_iter();
    let rest = { names }.find_map(|name| {
        let (begin, rest) = text.split_at_checked(name.len())?;
        begin.eq_ignore_ascii_case(name).then_some(rest)
    })?;
    past_blanks(rest).strip_prefix(b":").map(past_blanks)
}

/// What follows blanks, and ends of lines that go on.
fn past_blanks(mut text: &[u8]) -> &[u8] {
    loop {
        text = match text {
            [b' ' | b'\t', rest @ ..] => rest,
            _ => match past_line_end(text) {
                Some(next @ [b' ' | b'\t', ..]) => next,
                _ => return text,
            },
        };
    }
}

/// What follows the end of a line that the text begins with: CR, LF, or both.
fn past_line_end(text: &[u8]) -> Option<&[u8]> {
    match text {
        [b'\r', b'\n', rest @ ..] | [b'\r' | b'\n', rest @ ..] => Some(rest),
        _ => None,
    }
}

fn length_of_call_id(text: &[u8]) -> usize {
    let word = |text: &[u8]| text.iter().take_while(|&&byte| is_of_word(byte)).count();
    let first = word(text);
    match text.get(first..) {
        Some([b'@', rest @ ..]) if first > 0 => match word(rest) {
            0 => 0,
            second => first + 1 + second,
        },
        _ => first,
    }
}

const fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// What a word may have. The kernel takes the letters of Latin-1 for letters.
const fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~' | b'(' | b')'
        )
        || matches!(
            byte,
            b'<' | b'>' | b':' | b'\\' | b'"' | b'/' | b'[' | b']' | b'?' | b'{' | b'}'
        )
        || matches!(byte, 0xc0..=0xff if byte != 0xd7 && byte != 0xf7)
}

/// The longest Call-ID that is remembered, bytes (`IP_VS_PEDATA_MAXLEN`).
pub const LONGEST: usize = 255;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(message: &str) -> Option<&str> {
        call_id(message.as_bytes()).map(|id| std::str::from_utf8(id).unwrap())
    }

    /// Each was sent through the kernel.
    #[test]
    fn a_call_is_named_as_to_the_kernel() {
        for (message, id) in [
            ("I\r\nCALL-ID: a1\r\n\r\n", "a1"),
            ("I\r\ni: a2\r\n\r\n", "a2"),
            ("I\r\nI: a3\r\n\r\n", "a3"),
            ("I\nCall-ID: a5\n\n", "a5"),
            ("I\rCall-ID: a6\r\r", "a6"),
            ("I\r\nx: y\r\n\r\nCall-ID: a7\r\n", "a7"),
            ("I\r\nCall-ID  : a9\r\n\r\n", "a9"),
            ("I\r\nCall-ID:b1\r\n\r\n", "b1"),
            ("I\r\nCall-ID:\tb2\r\n\r\n", "b2"),
            ("I\r\nCall-ID\t: b3\r\n\r\n", "b3"),
            ("I\r\nCall-ID: b6\r", "b6"),
            ("I\r\nCall-ID: b9@x.y:5\r\n\r\n", "b9@x.y:5"),
            ("I\r\nCall-ID:\r\n  c5\r\n\r\n", "c5"),
            ("I\r\nCall-ID\r\n : c6\r\n\r\n", "c6"),
            ("I\r\nix: z\r\nCall-ID: c9\r\n\r\n", "c9"),
            (
                "I\r\nCall-ID: d3!\"%()*+:<>?[\\]_`{}~-./'\r\n",
                "d3!\"%()*+:<>?[\\]_`{}~-./'",
            ),
            ("I\r\ni: g1\r\nCall-ID: g2\r\n\r\n", "g1"),
            ("\r\nCall-ID: g6\r\n", "g6"),
        ] {
            assert_eq!(text(message), Some(id), "{message:?}");
        }
        for message in [
            "Call-ID: a4\r\nx: y\r\n\r\n",
            "I\r\nCall-ID: b4 \r\n\r\n",
            "I\r\nCall-ID: b5",
            "I\r\nCall-ID: b7 x\r\n\r\n",
            "I\r\nCall-ID: b8=x\r\n\r\n",
            "I\r\nCall-ID: c1@\r\n\r\n",
            "I\r\nCall-ID: c2@c@d\r\n\r\n",
            "I\r\nCall-ID: @c3\r\n\r\n",
            "I\r\nCall-ID: \r\nx: y\r\n\r\n",
            "I\r\nCall-ID: d4,\r\n\r\n",
            "I\r\nCall-ID: d5#\r\n\r\n",
            "I\r\nCall-ID: d6;x\r\n\r\n",
            "I\r\ni: g3=\r\nCall-ID: g4\r\n\r\n",
            "I\r\nx: y\r\n Call-ID: g5\r\n\r\n",
            "",
            "\r\n",
        ] {
            assert_eq!(text(message), None, "{message:?}");
        }
        assert_eq!(call_id(b"I\r\nCall-ID: d1\xe9\r\n"), Some(&b"d1\xe9"[..]));
        assert_eq!(call_id(b"I\r\nCall-ID: d2\xd7\r\n"), None);
    }

    /// The kernel finds none in these.
    #[test]
    fn what_looks_like_a_call_id_is_no_end_of_the_search() {
        for (message, id) in [
            ("I\nx: y\n\nCall-ID: a8\n", "a8"),
            ("I\r\nCall-ID:\r\nCall-ID: c4\r\n\r\n", "c4"),
            ("I\r\nCall-IDs: z\r\nCall-ID: c7\r\n\r\n", "c7"),
            ("I\r\ni-x: z\r\nCall-ID: c8\r\n\r\n", "c8"),
        ] {
            assert_eq!(text(message), Some(id), "{message:?}");
        }
    }

    #[test]
    fn the_longest_has_255_bytes() {
        for (length, found) in [(255, true), (256, false)] {
            let id = "e".repeat(length);
            let message = format!("I\r\nCall-ID: {id}\r\n\r\n");
            assert_eq!(text(&message), found.then_some(&*id));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_found_is_in_the_message_and_printable(
            message in "[\\r\\n\\t :i@a]{0,40}(Call-ID|i)?[\\r\\n\\t :@a,]{0,40}",
        ) {
            if let Some(id) = text(&message) {
                prop_assert!(message.contains(id));
                prop_assert!((1..=LONGEST).contains(&id.len()));
                prop_assert!(!id.contains(char::is_whitespace));
            }
        }

        #[test]
        fn any_bytes_do(message in prop::collection::vec(any::<u8>(), 0..200)) {
            let found = call_id(&message).unwrap_or(b"none");
            prop_assert!((1..=LONGEST).contains(&found.len()));
            prop_assert!(!found.iter().copied().any(is_line_end));
        }
    }
}
