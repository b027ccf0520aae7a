//! The serde visitors that take a body apart, whatever it is made of.
//!
//! A visitor here never refuses what it is given: something of another shape than expected is
//! skipped and told of. Only bytes that are not in their format at all are errors.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::{Decoded, Disposition, Fields, Order, OrderError, Section};

/// How many problems of one body are told one by one.
const MAX_PROBLEMS: usize = 100;

/// A value that holds no others.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Scalar<'a> {
    #[default]
    Null,
    False,
    True,
    Int(i64),
    /// A float, or an integer beyond 64 bits as the nearest one.
    Float(f64),
    Text(Cow<'a, str>),
    /// Bytes, or a list or an object, of which nothing is kept.
    Other,
}

impl Scalar<'_> {
    /// A number as a double.
    pub fn number(&self) -> Option<f64> {
        match self {
            Scalar::Int(int) => Some(*int as f64),
            Scalar::Float(float) => Some(*float),
            _ => None,
        }
    }
}

/// What to make of a value. A container that is of no interest counts as [`Scalar::Other`].
trait Take<'de>: Sized {
    type Value;

    fn scalar(self, scalar: Scalar<'de>) -> Self::Value;

    /// A text that is a part of what is read.
    fn borrowed(self, text: &'de str) -> Self::Value {
        self.scalar(Scalar::Text(Cow::Borrowed(text)))
    }

    /// A text that is not, such as one with escapes.
    fn passing(self, text: &str) -> Self::Value {
        self.scalar(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn list<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self.scalar(Scalar::Other))
    }

    fn object<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(self.scalar(Scalar::Other))
    }
}

/// Gives any value to a [`Take`].
struct Any<T>(T);

impl<'de, T: Take<'de>> DeserializeSeed<'de> for Any<T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Take<'de>> Visitor<'de> for Any<T> {
    type Value = T::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<T::Value, E> {
        Ok(self.0.scalar(Scalar::Null))
    }

    fn visit_bool<E>(self, bool: bool) -> Result<T::Value, E> {
        Ok(self
            .0
            .scalar(if bool { Scalar::True } else { Scalar::False }))
    }

    fn visit_i64<E>(self, int: i64) -> Result<T::Value, E> {
        Ok(self.0.scalar(Scalar::Int(int)))
    }

    fn visit_u64<E>(self, int: u64) -> Result<T::Value, E> {
        let scalar = i64::try_from(int).map_or(Scalar::Float(int as f64), Scalar::Int);
        Ok(self.0.scalar(scalar))
    }

    fn visit_f64<E>(self, float: f64) -> Result<T::Value, E> {
        Ok(self.0.scalar(Scalar::Float(float)))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<T::Value, E> {
        Ok(self.0.borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<T::Value, E> {
        Ok(self.0.passing(text))
    }

    fn visit_bytes<E>(self, _bytes: &[u8]) -> Result<T::Value, E> {
        Ok(self.0.scalar(Scalar::Other))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<T::Value, A::Error> {
        self.0.list(items)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<T::Value, A::Error> {
        self.0.object(entries)
    }
}

/// Takes a scalar as it is.
struct AsScalar;

impl<'de> Take<'de> for AsScalar {
    type Value = Scalar<'de>;

    fn scalar(self, scalar: Scalar<'de>) -> Scalar<'de> {
        scalar
    }
}

/// The whole body: its sections, if it is a list.
pub struct Body<'a>(pub Option<Decoded<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Body<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any(AsBody)).map(Body)
    }
}

struct AsBody;

impl<'de> Take<'de> for AsBody {
    type Value = Option<Decoded<'de>>;

    fn scalar(self, _scalar: Scalar<'de>) -> Self::Value {
        None
    }

    fn list<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut sections = Vec::new();
        let mut problems = Problems::default();
        for index in 0.. {
            let seed = Any(AsSection {
                index,
                problems: &mut problems,
            });
            match items.next_element_seed(seed)? {
                Some(Ok(section)) => sections.push(section),
                Some(Err(error)) => problems.add(|| format!("section {index} skipped: {error}")),
                None => break,
            }
        }
        Ok(Some(Decoded {
            sections,
            problems: problems.into_lines(),
        }))
    }
}

struct AsSection<'p> {
    index: usize,
    problems: &'p mut Problems,
}

impl<'de> Take<'de> for AsSection<'_> {
    type Value = Result<Section<'de>, OrderError>;

    fn scalar(self, _scalar: Scalar<'de>) -> Self::Value {
        Err(OrderError::NotAnObject)
    }

    fn object<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let AsSection { index, problems } = self;
        let mut orders = None;
        let mut disposition = Scalar::Null;
        while let Some(name) = entries.next_key_seed(Any(AsScalar))? {
            match &name {
                Scalar::Text(name) if name == "orders" => {
                    let seed = Any(AsOrders {
                        section: index,
                        problems,
                    });
                    orders = entries.next_value_seed(seed)?;
                }
                Scalar::Text(name) if name == "disposition" => {
                    disposition = entries.next_value_seed(Any(AsScalar))?;
                }
                _ => drop(entries.next_value::<IgnoredAny>()?),
            }
        }
        Ok(orders
            .ok_or(OrderError::Wrong("orders", "a list"))
            .map(|orders| {
                let disposition = match disposition {
                    Scalar::Null | Scalar::Int(0) => Disposition::Joinable,
                    Scalar::Int(1) => Disposition::CannotJoin,
                    _ => {
                        problems.add(|| {
                            format!("section {index} is not joined: disposition is not 0 or 1")
                        });
                        Disposition::CannotJoin
                    }
                };
                Section {
                    orders,
                    disposition,
                }
            }))
    }
}

struct AsOrders<'p> {
    section: usize,
    problems: &'p mut Problems,
}

impl<'de> Take<'de> for AsOrders<'_> {
    type Value = Option<Vec<Order<'de>>>;

    fn scalar(self, _scalar: Scalar<'de>) -> Self::Value {
        None
    }

    fn list<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let AsOrders { section, problems } = self;
        let mut orders = Vec::new();
        for number in 0.. {
            match items.next_element_seed(Any(PushOrder(&mut orders)))? {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    problems
                        .add(|| format!("order {number} of section {section} skipped: {error}"));
                }
                None => break,
            }
        }
        Ok(Some(orders))
    }
}

/// The fields of an order that stands alone.
pub struct Lone<'a>(pub Result<Fields<'a>, OrderError>);

impl<'de: 'a, 'a> Deserialize<'de> for Lone<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any(AsFields)).map(Lone)
    }
}

struct AsFields;

impl<'de> Take<'de> for AsFields {
    type Value = Result<Fields<'de>, OrderError>;

    fn scalar(self, _scalar: Scalar<'de>) -> Self::Value {
        Err(OrderError::NotAnObject)
    }

    fn object<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        fill(&mut fields, entries)?;
        Ok(Ok(fields))
    }
}

/// Adds an order to those before it.
struct PushOrder<'o, 'de>(&'o mut Vec<Order<'de>>);

impl<'de> Take<'de> for PushOrder<'_, 'de> {
    type Value = Result<(), OrderError>;

    fn scalar(self, _scalar: Scalar<'de>) -> Self::Value {
        Err(OrderError::NotAnObject)
    }

    fn object<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        fill(&mut fields, entries)?;
        Ok(fields.take_order().map(|order| self.0.push(order)))
    }
}

fn fill<'de, A: MapAccess<'de>>(fields: &mut Fields<'de>, mut entries: A) -> Result<(), A::Error> {
    while let Some(name) = entries.next_key_seed(Any(AsName))? {
        let field = match name {
            Name::Type => &mut fields.order_type,
            Name::Path => &mut fields.path,
            Name::Value => &mut fields.value,
            Name::Advise => &mut fields.advise,
            Name::StaleAfter => &mut fields.stale_after,
            Name::Uuid => &mut fields.uuid,
            Name::Time => &mut fields.time,
            Name::OpType => &mut fields.op_type,
            Name::OpArgs => &mut fields.op_args,
            Name::Other => {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
        };
        *field = entries.next_value_seed(Any(AsScalar))?;
    }
    Ok(())
}

/// The name of a field of an order.
enum Name {
    Type,
    Path,
    Value,
    Advise,
    StaleAfter,
    Uuid,
    Time,
    OpType,
    OpArgs,
    Other,
}

impl Name {
    fn of(name: &str) -> Self {
        match name {
            "type" => Name::Type,
            "path" => Name::Path,
            "value" => Name::Value,
            "advise" => Name::Advise,
            "stale_after" => Name::StaleAfter,
            "uuid" => Name::Uuid,
            "time" => Name::Time,
            "op_type" => Name::OpType,
            "op_args" => Name::OpArgs,
            _ => Name::Other,
        }
    }
}

/// Takes a name for what it is, without a copy of it.
struct AsName;

impl<'de> Take<'de> for AsName {
    type Value = Name;

    fn scalar(self, _scalar: Scalar<'de>) -> Name {
        Name::Other
    }

    fn borrowed(self, text: &'de str) -> Name {
        Name::of(text)
    }

    fn passing(self, text: &str) -> Name {
        Name::of(text)
    }
}

/// Problems, told one by one up to a number, so that a body full of them costs no more memory than
/// another.
#[derive(Default)]
struct Problems {
    lines: Vec<String>,
    untold: usize,
}

impl Problems {
    fn add(&mut self, line: impl FnOnce() -> String) {
        if self.lines.len() < MAX_PROBLEMS {
            self.lines.push(line());
        } else {
            self.untold += 1;
        }
    }

    fn into_lines(mut self) -> Vec<String> {
        if self.untold > 0 {
            self.lines.push(format!("{} more problems", self.untold));
        }
        self.lines
    }
}
