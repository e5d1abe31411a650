//! The ledger of one data set and one asker: a budget, and what was spent of it.
//!
//! A query is paid for in three steps. [`Ledger::judge`] says whether the budget bears it, and changes nothing; its [`Entry`] is
//! made durable by the caller; [`Ledger::commit`] takes the entry in and gives the [`Permit`] that an answer needs. There is no
//! fourth: what was committed stays spent, whether an answer was made, failed, was lost, or is drawn again elsewhere under a new
//! entry (each draw of noise costs, or two of them together would say more than was paid for). A ledger that starts anew reads its
//! entries by [`Ledger::replay`], which gives no permits: what was paid for before a crash may have been answered.
//!
//! Entries say the whole state and whose it is, and each must continue the one before: so a missing, doubled, altered or foreign one
//! is found, and who remembers the last alone can judge the next. Missing ones at the end only those find who remember the last number.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::unit::NanoRho;

/// Names a ledger: 32 bytes that are those of one data set and one asker alone, such as a digest over both. Written in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BookId([u8; 32]);

/// Not 64 small hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name of a ledger has 64 hexadecimal digits, 0 to 9 and a to f")]
pub struct BookIdError;

/// A budget and what was spent of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ledger {
    book: BookId,
    budget: NanoRho,
    spent: NanoRho,
    entries: u64,
}

/// One payment, and the ledger after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Whose it is.
    pub book: BookId,
    /// Counts from 1 without gaps.
    pub number: u64,
    /// What was paid.
    pub rho: NanoRho,
    /// What was spent in all, with this.
    pub spent: NanoRho,
    /// Of what.
    pub budget: NanoRho,
}

/// The right to one answer that was paid for. Nothing copies it, and an answer consumes it.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "it was paid for, and is not refunded"]
pub struct Permit {
    book: BookId,
    number: u64,
    rho: NanoRho,
}

/// Why a payment is refused. The ledger is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// More than is left.
    #[error("the privacy budget has rho {remaining} left, and the query costs rho {wanted}")]
    Exhausted {
        /// The price.
        wanted: NanoRho,
        /// What is left.
        remaining: NanoRho,
    },
    /// An answer that costs nothing says nothing, and what says nothing needs no ledger.
    #[error("a query that costs nothing is not entered")]
    Free,
    /// Entries are numbered in 64 bits.
    #[error("the ledger is full")]
    Full,
}

/// Why an entry does not continue a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It is another ledger's.
    #[error("entry {number} is of ledger {got}, expected {expected}")]
    Book {
        /// Which entry.
        number: u64,
        /// This ledger.
        expected: BookId,
        /// The entry's.
        got: BookId,
    },
    /// One is missing, or comes twice.
    #[error("entry {got} where entry {expected} was due")]
    Number {
        /// What was due.
        expected: u64,
        /// What came.
        got: u64,
    },
    /// It speaks of another budget.
    #[error("entry {number} is of a budget of rho {got}, expected {expected}")]
    Budget {
        /// Which entry.
        number: u64,
        /// The ledger's.
        expected: NanoRho,
        /// The entry's.
        got: NanoRho,
    },
    /// Its sum is not the sum.
    #[error("entry {number} says that rho {got} is spent, expected {expected}")]
    Sum {
        /// Which entry.
        number: u64,
        /// The sum.
        expected: NanoRho,
        /// The entry's.
        got: NanoRho,
    },
    /// It should have been refused.
    #[error("entry {number} should have been refused: {why}")]
    Payment {
        /// Which entry.
        number: u64,
        /// Why.
        why: Refused,
    },
}

impl Ledger {
    /// A ledger of which nothing is spent.
    pub fn new(book: BookId, budget: NanoRho) -> Self {
        Self { book, budget, spent: NanoRho(0), entries: 0 }
    }

    /// The ledger after these entries, from its first.
    ///
    /// # Errors
    /// The first entry that does not continue those before.
    pub fn replay<'a>(
        book: BookId,
        budget: NanoRho,
        entries: impl IntoIterator<Item = &'a Entry>,
    ) -> Result<Self, Broken> {
        let mut ledger = Self::new(book, budget);
        entries.into_iter().try_for_each(|entry| ledger.take_in(entry))?;
        Ok(ledger)
    }

    /// Whether the budget bears it: the entry that would follow.
    ///
    /// # Errors
    /// It does not.
    pub fn judge(&self, rho: NanoRho) -> Result<Entry, Refused> {
        if rho == NanoRho(0) {
            return Err(Refused::Free);
        }
        let number = self.entries.checked_add(1).ok_or(Refused::Full)?;
        let exhausted = Refused::Exhausted { wanted: rho, remaining: self.remaining() };
        let spent = self.spent.checked_add(rho).filter(|spent| *spent <= self.budget).ok_or(exhausted)?;
        Ok(Entry { book: self.book, number, rho, spent, budget: self.budget })
    }

    /// Takes in an entry that is durable.
    ///
    /// # Errors
    /// It does not continue this ledger, which is as it was.
    pub fn commit(&mut self, entry: &Entry) -> Result<Permit, Broken> {
        self.take_in(entry)?;
        Ok(Permit { book: entry.book, number: entry.number, rho: entry.rho })
    }

    fn take_in(&mut self, entry: &Entry) -> Result<(), Broken> {
        let number = entry.number;
        if entry.book != self.book {
            return Err(Broken::Book { number, expected: self.book, got: entry.book });
        }
        let expected = self.entries.saturating_add(1);
        if number != expected {
            return Err(Broken::Number { expected, got: number });
        }
        if entry.budget != self.budget {
            return Err(Broken::Budget { number, expected: self.budget, got: entry.budget });
        }
        let due = self.judge(entry.rho).map_err(|why| Broken::Payment { number, why })?;
        if entry.spent != due.spent {
            return Err(Broken::Sum { number, expected: due.spent, got: entry.spent });
        }
        (self.spent, self.entries) = (due.spent, due.number);
        Ok(())
    }

    /// Whose it is.
    pub fn book(&self) -> BookId {
        self.book
    }

    /// All that may ever be spent.
    pub fn budget(&self) -> NanoRho {
        self.budget
    }

    /// What was spent.
    pub fn spent(&self) -> NanoRho {
        self.spent
    }

    /// What is left.
    pub fn remaining(&self) -> NanoRho {
        self.budget.less(self.spent)
    }

    /// How many entries there are: the number of the last.
    pub fn entries(&self) -> u64 {
        self.entries
    }
}

impl Permit {
    /// The ledger it was paid from.
    pub fn book(&self) -> BookId {
        self.book
    }

    /// The entry it was paid by.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What was paid.
    pub fn rho(&self) -> NanoRho {
        self.rho
    }
}

impl BookId {
    /// These bytes as a name.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<String> for BookId {
    type Error = BookIdError;

    fn try_from(text: String) -> Result<Self, BookIdError> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(BookIdError),
        };
        if text.len() != 64 {
            return Err(BookIdError);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl From<BookId> for String {
    fn from(book: BookId) -> Self {
        book.to_string()
    }
}

impl fmt::Display for BookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ledger {self}")
    }
}
