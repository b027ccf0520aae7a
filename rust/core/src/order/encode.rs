//! Sections as the server sends them, in MiniJSON.

use super::{AdviseLevel, Disposition, Order};
use crate::minijson::{EncodingError, Writer};
use crate::value::Value;

/// A list of one section, which [`decode_sections`](super::decode_sections) reads as what it was.
///
/// # Errors
/// A text is longer than MiniJSON can say.
pub fn encode_section(
    orders: &[Order<'_>],
    disposition: Disposition,
) -> Result<Vec<u8>, EncodingError> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    writer.list_header(1)?;
    writer.object_header(2)?;
    writer.key("orders")?;
    writer.list_header(orders.len())?;
    for order in orders {
        write_order(&mut writer, order)?;
    }
    writer.key("disposition")?;
    writer.int(disposition.number().into());
    Ok(out)
}

fn write_order(writer: &mut Writer<'_>, order: &Order<'_>) -> Result<(), EncodingError> {
    match order {
        Order::Read { path, advise } => {
            write_type(writer, "read", 3)?;
            write_text(writer, "path", path)?;
            write_advise(writer, *advise)
        }
        Order::Write {
            path,
            value,
            advise,
            stale_after,
        } => {
            write_type(writer, "write", 4 + usize::from(stale_after.is_some()))?;
            write_text(writer, "path", path)?;
            writer.key("value")?;
            match value {
                Value::Int(int) => writer.int(*int),
                Value::Float(float) => writer.float(*float),
                Value::Text(text) => writer.text(text)?,
            }
            write_advise(writer, *advise)?;
            if let Some(seconds) = stale_after {
                writer.key("stale_after")?;
                writer.float(*seconds);
            }
            Ok(())
        }
        Order::Message { uuid } => {
            write_type(writer, "message", 2)?;
            write_text(writer, "uuid", uuid)
        }
        Order::Wait { seconds } => {
            write_type(writer, "wait", 2)?;
            writer.key("time")?;
            writer.float(*seconds);
            Ok(())
        }
        Order::Sysctl { op_type, op_args } => {
            write_type(writer, "sysctl", 3)?;
            write_text(writer, "op_type", op_type)?;
            write_text(writer, "op_args", op_args)
        }
    }
}

fn write_type(writer: &mut Writer<'_>, name: &str, fields: usize) -> Result<(), EncodingError> {
    writer.object_header(fields)?;
    write_text(writer, "type", name)
}

fn write_text(writer: &mut Writer<'_>, key: &str, text: &str) -> Result<(), EncodingError> {
    writer.key(key)?;
    writer.text(text)
}

fn write_advise(writer: &mut Writer<'_>, advise: AdviseLevel) -> Result<(), EncodingError> {
    writer.key("advise")?;
    writer.int(match advise {
        AdviseLevel::Advise => 0,
        AdviseLevel::Force => 1,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::order::{Format, MAX_WAIT, Section, decode_sections};

    fn advise() -> impl Strategy<Value = AdviseLevel> {
        prop_oneof![Just(AdviseLevel::Advise), Just(AdviseLevel::Force)]
    }

    fn order() -> impl Strategy<Value = Order<'static>> {
        let finite = prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO;
        let value = prop_oneof![
            any::<i64>().prop_map(Value::Int),
            finite.prop_map(Value::Float),
            ".*".prop_map(|text| Value::Text(text.into())),
        ];
        prop_oneof![
            (".*", advise()).prop_map(|(path, advise)| Order::Read {
                path: path.into(),
                advise
            }),
            (".*", value, advise(), prop::option::of(finite)).prop_map(
                |(path, value, advise, stale_after)| Order::Write {
                    path: path.into(),
                    value,
                    advise,
                    stale_after
                }
            ),
            ".*".prop_map(|uuid| Order::Message { uuid: uuid.into() }),
            (0.0..MAX_WAIT).prop_map(|seconds| Order::Wait { seconds }),
            (".*", ".*").prop_map(|(op_type, op_args)| Order::Sysctl {
                op_type: op_type.into(),
                op_args: op_args.into()
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_as_what_it_was(
            orders in prop::collection::vec(order(), 0..20),
            joinable: bool,
        ) {
            let disposition = if joinable { Disposition::Joinable } else { Disposition::CannotJoin };
            let body = encode_section(&orders, disposition).unwrap();
            let decoded = decode_sections(&body, Format::MiniJson).unwrap();
            prop_assert_eq!(decoded.problems, Vec::<String>::new());
            prop_assert_eq!(decoded.sections, [Section { orders, disposition }]);
        }
    }
}
