//! Texts of several lines and words as one input.

/// The lines of a text as words. Words are parted by NUL if the line has one, so that a word can be
/// empty or hold blanks, else by blanks.
pub(crate) fn words(line: &str) -> Vec<String> {
    let split: Vec<&str> = if line.contains('\0') {
        line.split('\0').collect()
    } else {
        line.split(' ').filter(|word| !word.is_empty()).collect()
    };
    split.into_iter().map(str::to_owned).collect()
}
