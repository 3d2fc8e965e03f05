//! The rules by which popt 1.19 takes a command line apart.
//!
//! - Options may stand anywhere; words between them are collected. `--` ends the options.
//! - Short options may be bundled (`-Lnc`); the rest of the bundle is the argument of one that
//!   wants one, a `=` in front of it is dropped (`-s=rr`).
//! - Long options take `--x v` or `--x=v` and cannot be abbreviated.
//! - A compulsory argument is taken whatever it looks like; an optional one only if it does not
//!   begin with `-`.
//! - An error names the whole word that was read last.

use super::Dialect;
use super::options::{Argument, BEYOND, Definition, OF_SERVERS, OPTIONS, Tag};

/// A command line that is being taken apart.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    dialect: Dialect,
    args: &'a [String],
    next: usize,
    /// What is left of a bundle of short options.
    bundle: Option<&'a str>,
    only_words: bool,
    /// The command is about a real server.
    of_server: bool,
    words: Vec<&'a str>,
}

/// An option with its argument.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    pub(super) tag: Tag,
    pub(super) argument: Option<&'a str>,
}

/// Why an option cannot be read; the texts are popt's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScanError {
    #[error("unknown option")]
    Unknown,
    #[error("missing argument")]
    MissingArgument,
    #[error("option does not take an argument")]
    UnwantedArgument,
}

impl<'a> Scanner<'a> {
    /// Starts at the first of the arguments, which come without the program's name.
    pub(super) fn new(dialect: Dialect, args: &'a [String]) -> Scanner<'a> {
        Scanner {
            dialect,
            args,
            next: 0,
            bundle: None,
            only_words: false,
            of_server: false,
            words: Vec::new(),
        }
    }

    /// The next option, or `None` when only words are left.
    pub(super) fn next(&mut self) -> Result<Option<Found<'a>>, ScanError> {
        if let Some(bundle) = self.bundle.take() {
            return self.short(bundle).map(Some);
        }
        while let Some(arg) = self.args.get(self.next) {
            self.next += 1;
            match arg.strip_prefix('-') {
                None | Some("") => self.words.push(arg),
                Some(_) if self.only_words => self.words.push(arg),
                Some("-") => self.only_words = true,
                Some(rest) => {
                    return match rest.strip_prefix('-') {
                        Some(long) => self.long(long).map(Some),
                        None => self.short(rest).map(Some),
                    };
                }
            }
        }
        Ok(None)
    }

    /// The word that was read last; popt calls it the bad option when there is something wrong.
    pub(super) fn last_word(&self) -> &'a str {
        self.next
            .checked_sub(1)
            .and_then(|last| self.args.get(last))
            .map_or("", String::as_str)
    }

    /// The words that are no options, in their order.
    pub(super) fn into_words(self) -> Vec<&'a str> {
        self.words
    }

    fn long(&mut self, text: &'a str) -> Result<Found<'a>, ScanError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let definition = OPTIONS
            .iter()
            .chain(self.beyond())
            .chain(self.of_servers())
            .find(|definition| definition.long == name)
            .ok_or(ScanError::Unknown)?;
        self.argument(definition, value)
    }

    fn short(&mut self, bundle: &'a str) -> Result<Found<'a>, ScanError> {
        let mut letters = bundle.chars();
        let letter = letters.next();
        let definition = self
            .of_servers()
            .iter()
            .chain(OPTIONS)
            .chain(self.beyond())
            .find(|definition| definition.short.is_some() && definition.short == letter)
            .ok_or(ScanError::Unknown)?;
        let rest = Some(letters.as_str()).filter(|rest| !rest.is_empty());
        if definition.argument == Argument::None {
            if rest.is_some_and(|rest| rest.starts_with('=')) {
                return Err(ScanError::UnwantedArgument);
            }
            self.bundle = rest;
            return self.argument(definition, None);
        }
        self.argument(
            definition,
            rest.map(|rest| rest.strip_prefix('=').unwrap_or(rest)),
        )
    }

    fn beyond(&self) -> &'static [Definition] {
        match self.dialect {
            Dialect::Ipvsadm => &[],
            Dialect::Lvsadm => BEYOND,
        }
    }

    fn of_servers(&self) -> &'static [Definition] {
        match self.dialect {
            Dialect::Lvsadm if self.of_server => OF_SERVERS,
            _ => &[],
        }
    }

    fn argument(
        &mut self,
        definition: &Definition,
        attached: Option<&'a str>,
    ) -> Result<Found<'a>, ScanError> {
        let argument = match (definition.argument, attached) {
            (Argument::None, None) => None,
            (Argument::None, Some(_)) => return Err(ScanError::UnwantedArgument),
            (_, Some(value)) => Some(value),
            (wanted, None) => {
                let following = self.args.get(self.next).map(String::as_str);
                match (wanted, following) {
                    (Argument::Optional, Some(word)) if word.starts_with('-') => None,
                    (Argument::Optional, None) => None,
                    (_, None) => return Err(ScanError::MissingArgument),
                    (_, Some(word)) => {
                        self.next += 1;
                        Some(word)
                    }
                }
            }
        };
        self.of_server |= matches!(definition.tag, Tag::AddServer | Tag::EditServer);
        Ok(Found {
            tag: definition.tag,
            argument,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Taken = (Tag, Option<String>);

    /// Options, the error with its word, and words.
    fn scan(line: &str) -> (Vec<Taken>, Option<(ScanError, String)>, Vec<String>) {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let mut scanner = Scanner::new(Dialect::Ipvsadm, &args);
        let mut found = Vec::new();
        let error = loop {
            match scanner.next() {
                Ok(Some(Found { tag, argument })) => {
                    found.push((tag, argument.map(str::to_owned)));
                }
                Ok(None) => break None,
                Err(error) => break Some((error, scanner.last_word().to_owned())),
            }
        };
        let words = scanner.into_words().into_iter().map(str::to_owned);
        (found, error, words.collect())
    }

    fn with(tag: Tag, argument: &str) -> (Tag, Option<String>) {
        (tag, Some(argument.to_owned()))
    }

    #[test]
    fn options_and_words_may_be_mixed() {
        let (found, error, words) = scan("a -Lnc b --tcp-service x -- -n -");
        let expected = [
            (Tag::List, None),
            (Tag::Numeric, None),
            (Tag::Connection, None),
            with(Tag::TcpService, "x"),
        ];
        assert_eq!(found, expected);
        assert_eq!(error, None);
        assert_eq!(words, ["a", "b", "-n", "-"]);
    }

    #[test]
    fn arguments_are_attached_or_follow() {
        for line in ["-srr", "-s rr", "-s=rr", "--scheduler rr", "--scheduler=rr"] {
            assert_eq!(scan(line).0, [with(Tag::Scheduler, "rr")], "{line}");
        }
        assert_eq!(scan("-s==rr").0, [with(Tag::Scheduler, "=rr")]);
        assert_eq!(scan("-s=").0, [with(Tag::Scheduler, "")]);
        assert_eq!(scan("-w -1").0, [with(Tag::Weight, "-1")]);
        assert_eq!(
            scan("-ns rr").0,
            [(Tag::Numeric, None), with(Tag::Scheduler, "rr")]
        );
    }

    #[test]
    fn an_optional_argument_does_not_begin_with_a_dash() {
        assert_eq!(scan("-p 60").0, [with(Tag::Persistent, "60")]);
        assert_eq!(scan("-p60").0, [with(Tag::Persistent, "60")]);
        assert_eq!(scan("-p").0, [(Tag::Persistent, None)]);
        assert_eq!(
            scan("-p -n").0,
            [(Tag::Persistent, None), (Tag::Numeric, None)]
        );
        let (found, error, _) = scan("-p -1");
        assert_eq!(found, [(Tag::Persistent, None)]);
        assert_eq!(error, Some((ScanError::Unknown, "-1".to_owned())));
    }

    #[test]
    fn errors_name_the_whole_word() {
        let cases = [
            ("-Lnx", ScanError::MissingArgument, "-Lnx"),
            ("-Lnq", ScanError::Unknown, "-Lnq"),
            ("--list=1", ScanError::UnwantedArgument, "--list=1"),
            ("-n=1", ScanError::UnwantedArgument, "-n=1"),
            ("--tcp", ScanError::Unknown, "--tcp"),
            ("-t", ScanError::MissingArgument, "-t"),
            ("-é", ScanError::Unknown, "-é"),
        ];
        for (line, error, word) in cases {
            assert_eq!(scan(line).1, Some((error, word.to_owned())), "{line}");
        }
    }
}
