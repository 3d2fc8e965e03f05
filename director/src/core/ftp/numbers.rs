//! The sequence numbers of a control connection where words of one end have been rewritten for the other: what is
//! behind a text that has become longer or shorter has moved.

use crate::core::connection::Direction;

/// How far what each end of a control connection says has moved for the other; none if it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    client: Option<Numbers>,
    server: Option<Numbers>,
}

impl Moved {
    /// Of what is said in this direction.
    pub(in crate::core) fn said(self, direction: Direction) -> Option<Numbers> {
        match direction {
            Direction::Request => self.client,
            Direction::Reply => self.server,
        }
    }

    /// Of what segments of this direction acknowledge.
    pub(in crate::core) fn heard(self, direction: Direction) -> Option<Numbers> {
        match direction {
            Direction::Request => self.server,
            Direction::Reply => self.client,
        }
    }

    /// The segment of this direction with this number has grown by so many bytes, or shrunk.
    pub(in crate::core) fn grown(self, direction: Direction, number: u32, by: i32) -> Moved {
        let numbers = Some(Numbers::grown(self.said(direction), number, by));
        match direction {
            Direction::Request => Moved {
                client: numbers,
                ..self
            },
            Direction::Reply => Moved {
                server: numbers,
                ..self
            },
        }
    }
}

/// How far what one end says has moved for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::core) struct Numbers {
    /// The speaker's number of the segment that was changed last.
    changed: u32,
    /// Of that one, and of what is in front of it.
    before: u32,
    /// Of what is behind.
    after: u32,
}

impl Numbers {
    /// The segment of this number has grown by so many bytes, or shrunk: the first one, or another one. The same
    /// one again is nothing new.
    fn grown(former: Option<Numbers>, number: u32, by: i32) -> Numbers {
        match former {
            Some(same) if !is_behind(number, same.changed) => same,
            former => {
                let before = former.map_or(0, |former| former.after);
                Numbers {
                    changed: number,
                    before,
                    after: before.wrapping_add_signed(by),
                }
            }
        }
    }

    /// The hearer's number for one of the speaker's.
    pub(in crate::core) fn to_hearer(self, number: u32) -> u32 {
        let behind = is_behind(number, self.changed);
        number.wrapping_add(if behind { self.after } else { self.before })
    }

    /// The speaker's number for what the hearer acknowledges.
    pub(in crate::core) fn to_speaker(self, number: u32) -> u32 {
        let behind = is_behind(number, self.changed.wrapping_add(self.before));
        number.wrapping_sub(if behind { self.after } else { self.before })
    }
}

/// Whether a number is later than another one.
fn is_behind(number: u32, other: u32) -> bool {
    number.wrapping_sub(other).cast_signed() > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_a_changed_segment_moves() {
        for first in [1000, u32::MAX - 20] {
            // 50 bytes become 53.
            let numbers = Numbers::grown(None, first, 3);
            assert_eq!(numbers.to_hearer(first), first);
            let next = first.wrapping_add(50);
            assert_eq!(numbers.to_hearer(next), next.wrapping_add(3));
            assert_eq!(numbers.to_speaker(next.wrapping_add(3)), next);
            assert_eq!(numbers.to_speaker(first), first);
            // The same once more.
            assert_eq!(Numbers::grown(Some(numbers), first, 3), numbers);
            // The next one becomes two shorter.
            let again = Numbers::grown(Some(numbers), next, -2);
            assert_eq!(again.to_hearer(next), next.wrapping_add(3));
            let last = next.wrapping_add(40);
            assert_eq!(again.to_hearer(last), last.wrapping_add(1));
            assert_eq!(again.to_speaker(last.wrapping_add(1)), last);
            assert_eq!(again.to_speaker(next.wrapping_add(3)), next);
        }
    }
}
