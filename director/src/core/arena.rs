//! Values under small numbers that stay good while others come and go.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// A number that names a value of one [`Arena`].
pub(super) trait Id: Copy {
    /// From the number.
    fn new(number: u32) -> Self;
    /// The number.
    fn number(self) -> u32;
}

/// The values. Numbers of removed values are given again.
#[derive(Debug)]
pub(super) struct Arena<I, T> {
    values: Vec<Option<T>>,
    vacant: Vec<u32>,
    ids: PhantomData<I>,
}

impl<I: Id, T> Arena<I, T> {
    pub(super) fn new() -> Arena<I, T> {
        Arena {
            values: Vec::new(),
            vacant: Vec::new(),
            ids: PhantomData,
        }
    }

    pub(super) fn insert(&mut self, value: T) -> I {
        if let Some(number) = self.vacant.pop() {
            self.values[number as usize] = Some(value);
            return I::new(number);
        }
        self.values.push(Some(value));
        I::new(self.values.len() as u32 - 1)
    }

    pub(super) fn remove(&mut self, id: I) {
        if self.values[id.number() as usize].take().is_some() {
            self.vacant.push(id.number());
        }
    }

    /// The value of an id that may be old; then it may be another's.
    pub(super) fn get(&self, id: I) -> Option<&T> {
        self.values.get(id.number() as usize)?.as_ref()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.values.iter().flatten()
    }

    /// All values.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.values.iter_mut().flatten()
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (I, &T)> {
        (0..)
            .zip(&self.values)
            .filter_map(|(number, value)| Some((I::new(number), value.as_ref()?)))
    }
}

impl<I: Id, T> Index<I> for Arena<I, T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, id: I) -> &T {
        self.values[id.number() as usize].as_ref().expect(IN_USE)
    }
}

impl<I: Id, T> IndexMut<I> for Arena<I, T> {
    #[inline(always)]
    fn index_mut(&mut self, id: I) -> &mut T {
        self.values[id.number() as usize].as_mut().expect(IN_USE)
    }
}

const IN_USE: &str = "whoever keeps an id keeps its value alive";
