//! Runs code on a batch of rows, an operation at a time.
//!
//! Operations on columns of one type are loops over slices. Others go row by row over [`Word`]s. A row that needs more than
//! words (text, a wide integer, an error) becomes [`SPILLED`] and stays so through all operations; whoever asked evaluates
//! that row by itself. Both branches of a condition are computed for all rows, and the joins pick: a row that is spilled only
//! in the branch that it does not take comes out whole.

use std::borrow::Cow;

use super::arithmetic::{Binary, Unary, binary, unary};
use super::coerce::coerce_word;
use super::compare::{Comparison, compare};
use super::functions::{Function, call};
use super::op::Op;
use super::operand::Operand;
use super::program::Program;
use super::rows::{Pick, Rows};
use super::samples::{Column, Values};
use super::text::Budget;
use super::word::{View, Word, exact};
use crate::pathpoint::Kind;

/// A row that words cannot hold.
const SPILLED: Word = Word::spilled(0);

/// One operand of every row of a batch.
#[derive(Debug)]
pub(super) enum Lane<'a> {
    Ints(Operands<'a, i64>),
    Floats(Operands<'a, f64>),
    Bools(Operands<'a, bool>),
    Words(Vec<Word>),
}

/// Operands of one type.
#[derive(Clone, Debug)]
pub(super) enum Operands<'a, T: Clone> {
    /// One for each row.
    Each(Cow<'a, [T]>),
    /// The same one in all rows.
    Same(T),
}

/// How many lanes the code needs at once.
pub(super) fn depth(code: &[Op]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for op in code.iter().filter(|op| !op.is_jump()) {
        depth = depth.saturating_sub(op.operands());
        depth += if matches!(op, Op::Chain(..)) { 2 } else { 1 };
        deepest = deepest.max(depth);
    }
    deepest
}

/// Evaluates a program for the rows; those that are spilled in the result have to be evaluated by themselves.
pub(super) fn run<'a>(
    program: &Program,
    kind: Option<Kind>,
    columns: &[Column<'a>],
    rows: &Rows<'_>,
) -> Lane<'a> {
    let mut stack: Vec<Lane<'a>> = Vec::new();
    for op in program.code.iter().filter(|op| !op.is_jump()) {
        let mut taken = stack.split_off(stack.len().saturating_sub(op.operands()));
        let result = match (*op, taken.as_slice()) {
            (Op::Constant(index), _) => {
                constant(program.constants.get(usize::from(index)), rows.count)
            }
            (Op::Load(slot), _) => load(usize::from(slot), columns, rows),
            (Op::Unary(op), [operand]) => apply_unary(op, operand, rows.count),
            (Op::Binary(op), [left, right]) => apply_binary(op, left, right, rows.count),
            (Op::Compare(op), [left, right]) => apply_comparison(op, left, right, rows.count),
            (Op::Chain(op, _), [left, right]) => {
                stack.push(apply_comparison(op, left, right, rows.count));
                match taken.pop() {
                    Some(middle) => middle,
                    None => continue,
                }
            }
            (Op::And | Op::EndChain, [left, right]) => select(left, right, left, rows.count),
            (Op::Or, [left, right]) => select(left, left, right, rows.count),
            (Op::Select, [condition, then, otherwise]) => {
                select(condition, then, otherwise, rows.count)
            }
            (Op::Call(function, _), arguments) => apply_call(function, arguments, rows.count),
            _ => spilled(rows.count),
        };
        stack.push(result);
    }
    let result = stack.pop().unwrap_or_else(|| spilled(rows.count));
    let result = match (kind, result) {
        (None, lane) | (Some(Kind::Single | Kind::Double), lane @ Lane::Floats(_)) => lane,
        (Some(kind), lane) => by_row(rows.count, |row| coerce_word(lane.word(row), kind)),
    };
    spill_failures(result, columns, rows)
}

impl<'a> Lane<'a> {
    /// Words, in a lane of their type if they have one.
    fn of_words(words: Vec<Word>) -> Self {
        let ints: Option<Vec<i64>> = words
            .iter()
            .map(|word| {
                if let View::Int(int) = word.view() {
                    Some(int)
                } else {
                    None
                }
            })
            .collect();
        if let Some(ints) = ints {
            return Lane::Ints(Operands::each(ints));
        }
        let floats: Option<Vec<f64>> = words
            .iter()
            .map(|word| {
                if let View::Float(float) = word.view() {
                    Some(float)
                } else {
                    None
                }
            })
            .collect();
        match floats {
            Some(floats) => Lane::Floats(Operands::each(floats)),
            None => Lane::Words(words),
        }
    }

    /// The operand of a row.
    pub(super) fn word(&self, row: usize) -> Word {
        match self {
            Lane::Ints(ints) => ints.at(row).map(Word::int),
            Lane::Floats(floats) => floats.at(row).map(Word::float),
            Lane::Bools(bools) => bools.at(row).map(Word::bool),
            Lane::Words(words) => words.get(row).copied(),
        }
        .unwrap_or(SPILLED)
    }

    /// The operands as floats, if all are numbers that are floats without loss.
    fn floats(&self) -> Option<Operands<'_, f64>> {
        match self {
            Lane::Floats(floats) => Some(floats.borrow()),
            Lane::Ints(ints) => {
                let mut all = true;
                let floats = ints.map(|int| {
                    let float = exact(int);
                    all &= float.is_some();
                    float.unwrap_or_default()
                });
                all.then_some(floats)
            }
            Lane::Bools(_) | Lane::Words(_) => None,
        }
    }

    /// Python's truth of the operands, if none is spilled.
    fn truth(&self) -> Option<Operands<'_, bool>> {
        match self {
            Lane::Ints(ints) => Some(ints.map(|int| int != 0)),
            Lane::Floats(floats) => Some(floats.map(|float| float != 0.0)),
            Lane::Bools(bools) => Some(bools.borrow()),
            Lane::Words(words) => {
                let bools: Option<_> = words.iter().map(|word| word.is_true()).collect();
                bools.map(Operands::Each)
            }
        }
    }
}

impl Operands<'_, f64> {
    fn has_zero(&self) -> bool {
        match self {
            Operands::Each(floats) => floats.contains(&0.0),
            Operands::Same(float) => *float == 0.0,
        }
    }
}

impl<T: Copy> Operands<'_, T> {
    fn each(operands: Vec<T>) -> Self {
        Operands::Each(operands.into())
    }

    fn borrow(&self) -> Operands<'_, T> {
        match self {
            Operands::Each(operands) => Operands::Each(Cow::Borrowed(operands)),
            Operands::Same(operand) => Operands::Same(*operand),
        }
    }

    fn at(&self, row: usize) -> Option<T> {
        match self {
            Operands::Each(operands) => operands.get(row).copied(),
            Operands::Same(operand) => Some(*operand),
        }
    }

    /// One operand for each row.
    pub(super) fn slice(&self, count: usize) -> Cow<'_, [T]> {
        match self {
            Operands::Each(operands) => Cow::Borrowed(operands),
            Operands::Same(operand) => vec![*operand; count].into(),
        }
    }

    /// What an operation makes of the operand of each row.
    fn map<'b, U: Copy>(&self, mut operation: impl FnMut(T) -> U) -> Operands<'b, U> {
        match self {
            Operands::Each(operands) => {
                let results = operands.iter().map(|operand| operation(*operand));
                Operands::Each(results.collect())
            }
            Operands::Same(operand) => Operands::Same(operation(*operand)),
        }
    }

    /// What an operation makes of the two operands of each row; of two constants nothing, since these are folded.
    fn zip<'b, U: Copy>(
        &self,
        right: &Operands<'_, T>,
        mut operation: impl FnMut(T, T) -> U,
    ) -> Option<Operands<'b, U>> {
        let results = match (self, right) {
            (Operands::Each(left), Operands::Each(right)) => {
                let pairs = left.iter().zip(right.iter());
                pairs
                    .map(|(left, right)| operation(*left, *right))
                    .collect()
            }
            (Operands::Each(left), Operands::Same(right)) => {
                left.iter().map(|left| operation(*left, *right)).collect()
            }
            (Operands::Same(left), Operands::Each(right)) => {
                right.iter().map(|right| operation(*left, *right)).collect()
            }
            (Operands::Same(_), Operands::Same(_)) => return None,
        };
        Some(Operands::Each(results))
    }
}

fn spilled<'a>(count: usize) -> Lane<'a> {
    Lane::Words(vec![SPILLED; count])
}

fn constant<'a>(constant: Option<&Operand>, count: usize) -> Lane<'a> {
    match constant.and_then(Word::new).unwrap_or(SPILLED).view() {
        View::Bool(bool) => Lane::Bools(Operands::Same(bool)),
        View::Int(int) => Lane::Ints(Operands::Same(int)),
        View::Float(float) => Lane::Floats(Operands::Same(float)),
        View::Spilled(_) => spilled(count),
    }
}

/// The values of a pathpoint.
fn load<'a>(slot: usize, columns: &[Column<'a>], rows: &Rows<'_>) -> Lane<'a> {
    let (Some(column), Some(pick)) = (columns.get(slot), rows.pick(slot)) else {
        return spilled(rows.count);
    };
    let lane = match column.values {
        Values::Ints(ints) => pick_values(ints, pick, rows.count).map(Lane::Ints),
        Values::Floats(floats) => pick_values(floats, pick, rows.count).map(Lane::Floats),
        Values::Entries(entries) => {
            let word = |row| match entries.get(pick.sample(row)) {
                Some(Ok(operand)) => Word::new(operand).unwrap_or(SPILLED),
                _ => SPILLED,
            };
            Some(Lane::of_words((0..rows.count).map(word).collect()))
        }
    };
    lane.unwrap_or_else(|| spilled(rows.count))
}

fn pick_values<'a, T: Copy + Default>(
    values: &'a [T],
    pick: Pick<'_>,
    count: usize,
) -> Option<Operands<'a, T>> {
    match pick {
        Pick::Run(first) => {
            let run = values.get(first..first.checked_add(count)?)?;
            Some(Operands::Each(Cow::Borrowed(run)))
        }
        Pick::Each(samples) => {
            // No sample comes after the last one, so all are there.
            let values = values.get(..=*samples.last()?)?;
            let value = |sample: &usize| values.get(*sample).copied().unwrap_or_default();
            Some(Operands::each(samples.iter().map(value).collect()))
        }
    }
}

/// A row of which a pathpoint could not be read has failed, whatever the expression makes of it.
fn spill_failures<'a>(lane: Lane<'a>, columns: &[Column<'a>], rows: &Rows<'_>) -> Lane<'a> {
    let failed = |row: usize| {
        columns
            .iter()
            .zip(rows.picks())
            .any(|(column, pick)| match column.values {
                Values::Entries(entries) => {
                    matches!(entries.get(pick.sample(row)), Some(Err(_)))
                }
                Values::Ints(_) | Values::Floats(_) => false,
            })
    };
    let all_numbers = columns
        .iter()
        .all(|column| !matches!(column.values, Values::Entries(_)));
    if all_numbers || !(0..rows.count).any(failed) {
        return lane;
    }
    let word = |row| if failed(row) { SPILLED } else { lane.word(row) };
    Lane::Words((0..rows.count).map(word).collect())
}

/// `op operand`
fn apply_unary<'a>(op: Unary, operand: &Lane<'a>, count: usize) -> Lane<'a> {
    let lane = match (op, operand) {
        (Unary::Not, operand) => operand
            .truth()
            .map(|truth| Lane::Bools(truth.map(|truth| !truth))),
        (Unary::Negative, Lane::Floats(floats)) => Some(Lane::Floats(floats.map(|float| -float))),
        (Unary::Negative, Lane::Ints(ints)) => {
            let mut overflow = false;
            let negatives = ints.map(|int| {
                let (negative, overflows) = int.overflowing_neg();
                overflow |= overflows;
                negative
            });
            (!overflow).then_some(Lane::Ints(negatives))
        }
        _ => None,
    };
    lane.unwrap_or_else(|| {
        by_row(count, |row| {
            let result = unary(op, &operand.word(row).operand()?).ok()?;
            Word::new(&result)
        })
    })
}

/// `left op right`
fn apply_binary<'a>(op: Binary, left: &Lane<'a>, right: &Lane<'a>, count: usize) -> Lane<'a> {
    let lane = match (left, right) {
        (Lane::Ints(left), Lane::Ints(right)) if op != Binary::Divide => {
            integers(op, left, right).map(Lane::Ints)
        }
        _ => match (left.floats(), right.floats()) {
            (Some(left), Some(right)) => floats(op, &left, &right).map(Lane::Floats),
            _ => None,
        },
    };
    lane.unwrap_or_else(|| {
        by_row(count, |row| {
            let (left, right) = (left.word(row), right.word(row));
            Word::binary(op, left, right).or_else(|| {
                let (left, right) = (left.operand()?, right.operand()?);
                Word::new(&binary(op, &left, &right, &mut Budget::default()).ok()?)
            })
        })
    })
}

fn integers<'a>(
    op: Binary,
    left: &Operands<'_, i64>,
    right: &Operands<'_, i64>,
) -> Option<Operands<'a, i64>> {
    let mut overflow = false;
    let mut noted = |(result, overflows): (i64, bool)| {
        overflow |= overflows;
        result
    };
    let ints = match op {
        Binary::Add => left.zip(right, |left, right| noted(left.overflowing_add(right))),
        Binary::Subtract => left.zip(right, |left, right| noted(left.overflowing_sub(right))),
        Binary::Multiply => left.zip(right, |left, right| noted(left.overflowing_mul(right))),
        _ => None,
    };
    ints.filter(|_| !overflow)
}

fn floats<'a>(
    op: Binary,
    left: &Operands<'_, f64>,
    right: &Operands<'_, f64>,
) -> Option<Operands<'a, f64>> {
    match op {
        Binary::Add => left.zip(right, |left, right| left + right),
        Binary::Subtract => left.zip(right, |left, right| left - right),
        Binary::Multiply => left.zip(right, |left, right| left * right),
        Binary::Divide if !right.has_zero() => left.zip(right, |left, right| left / right),
        _ => None,
    }
}

/// `left op right`
fn apply_comparison<'a>(
    op: Comparison,
    left: &Lane<'a>,
    right: &Lane<'a>,
    count: usize,
) -> Lane<'a> {
    let bools = match (left, right) {
        (Lane::Ints(left), Lane::Ints(right)) => order(op, left, right),
        _ => match (left.floats(), right.floats()) {
            (Some(left), Some(right)) => order(op, &left, &right),
            _ => None,
        },
    };
    bools.map(Lane::Bools).unwrap_or_else(|| {
        by_row(count, |row| {
            holds(op, left.word(row), right.word(row)).map(Word::bool)
        })
    })
}

fn order<'a, T: PartialOrd + Copy>(
    op: Comparison,
    left: &Operands<'_, T>,
    right: &Operands<'_, T>,
) -> Option<Operands<'a, bool>> {
    match op {
        Comparison::Equal => left.zip(right, |left, right| left == right),
        Comparison::NotEqual => left.zip(right, |left, right| left != right),
        Comparison::Less => left.zip(right, |left, right| left < right),
        Comparison::LessEqual => left.zip(right, |left, right| left <= right),
        Comparison::Greater => left.zip(right, |left, right| left > right),
        Comparison::GreaterEqual => left.zip(right, |left, right| left >= right),
        Comparison::In | Comparison::NotIn => None,
    }
}

fn holds(op: Comparison, left: Word, right: Word) -> Option<bool> {
    Word::compare(op, left, right).or_else(|| {
        compare(
            op,
            &left.operand()?,
            &right.operand()?,
            &mut Budget::default(),
        )
        .ok()
    })
}

/// For each row `then` where the condition is true, else `otherwise`.
fn select<'a>(
    condition: &Lane<'a>,
    then: &Lane<'a>,
    otherwise: &Lane<'a>,
    count: usize,
) -> Lane<'a> {
    let pick = |truth: Operands<'_, bool>| match (then, otherwise) {
        (Lane::Ints(then), Lane::Ints(otherwise)) => {
            Some(Lane::Ints(choose(&truth, then, otherwise, count)))
        }
        (Lane::Floats(then), Lane::Floats(otherwise)) => {
            Some(Lane::Floats(choose(&truth, then, otherwise, count)))
        }
        (Lane::Bools(then), Lane::Bools(otherwise)) => {
            Some(Lane::Bools(choose(&truth, then, otherwise, count)))
        }
        _ => None,
    };
    condition.truth().and_then(pick).unwrap_or_else(|| {
        by_row(count, |row| {
            let taken = if condition.word(row).is_true()? {
                then
            } else {
                otherwise
            };
            Some(taken.word(row))
        })
    })
}

fn choose<'a, T: Copy>(
    truth: &Operands<'_, bool>,
    then: &Operands<'_, T>,
    otherwise: &Operands<'_, T>,
    count: usize,
) -> Operands<'a, T> {
    let (truth, then, otherwise) = (
        truth.slice(count),
        then.slice(count),
        otherwise.slice(count),
    );
    let branches = then.iter().zip(otherwise.iter());
    let chosen = truth
        .iter()
        .zip(branches)
        .map(|(truth, (then, otherwise))| if *truth { *then } else { *otherwise });
    Operands::each(chosen.collect())
}

/// A function of the arguments of each row.
fn apply_call<'a>(function: Function, arguments: &[Lane<'a>], count: usize) -> Lane<'a> {
    if let (Some(better), [first, second, rest @ ..]) = (function.better(), arguments) {
        let two = extreme(better, first, second, count);
        return rest
            .iter()
            .fold(two, |best, next| extreme(better, &best, next, count));
    }
    let mut operands = Vec::new();
    by_row(count, |row| {
        operands.clear();
        for argument in arguments {
            operands.push(argument.word(row).operand()?);
        }
        Word::new(&call(function, &operands, &mut Budget::default()).ok()?)
    })
}

/// For each row the right operand where it is better, else the left one.
fn extreme<'a>(better: Comparison, left: &Lane<'a>, right: &Lane<'a>, count: usize) -> Lane<'a> {
    select(
        &apply_comparison(better, right, left, count),
        right,
        left,
        count,
    )
}

/// Computes the rows one by one; those for which there is no word are spilled.
fn by_row<'a>(count: usize, mut word: impl FnMut(usize) -> Option<Word>) -> Lane<'a> {
    Lane::of_words((0..count).map(|row| word(row).unwrap_or(SPILLED)).collect())
}
