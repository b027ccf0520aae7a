//! Orders as they came from the server, and the orders of a section whatever they are kept as.
//!
//! Most orders are executed, and written to the journal, without anybody looking at them as Python
//! objects. So they stay in the body that they came in, and become objects when they are looked at.

use std::cell::OnceCell;
use std::sync::Arc;

use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PyString};
use self_cell::self_cell;
use smok_core::order::{
    Decoded, Disposition, Format, Order, decode_sections as decode_body,
    encode_section as encode_orders,
};

use crate::minijson::{decoding_error, encoding_error};
use crate::order::{Access, ReadOrder, SysctlOrder, WaitOrder, WriteOrder, from_python, to_python};
use crate::value;

self_cell!(
    /// What the server sent, and what it says.
    struct Body {
        owner: Py<PyBytes>,

        #[covariant]
        dependent: Decoded,
    }
);

/// The orders of one section as they came from the server. May be used by any thread.
#[pyclass(frozen, module = "smok_fast._core")]
pub struct DecodedOrders {
    body: Arc<Body>,
    section: usize,
    objects: PyOnceLock<Py<PyList>>,
}

impl DecodedOrders {
    fn orders(&self) -> &[Order<'_>] {
        let sections = &self.body.borrow_dependent().sections;
        sections
            .get(self.section)
            .map_or(&[], |section| &section.orders)
    }
}

#[pymethods]
impl DecodedOrders {
    /// The orders as objects, in a list that is the same at each call. From the first call on the
    /// orders are what is in that list, whatever is done to it.
    fn objects<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let objects = self.objects.get_or_try_init(py, || {
            let orders = self.orders().iter().map(|order| to_python(py, order));
            let orders = orders.collect::<PyResult<Vec<_>>>()?;
            PyList::new(py, orders).map(Bound::unbind)
        })?;
        Ok(objects.bind(py).clone())
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        match self.objects.get(py) {
            Some(list) => list.bind(py).len(),
            None => self.orders().len(),
        }
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: usize) -> PyResult<Bound<'py, PyAny>> {
        match Orders::Decoded(self).get(py, index) {
            Some(order) => order.object(py),
            None => Err(PyIndexError::new_err("no such order")),
        }
    }
}

/// The orders and the disposition of one section.
type SectionParts = (DecodedOrders, u8);

/// Decode a list of sections.
///
/// :param body: what the server sent
/// :param minijson: whether it is MiniJSON, not JSON
/// :return: for each section its orders and its disposition; and a line of text for each thing in
///     the body that made no sense and was left out
/// :raises DecodingError: the body is no list, or not in this format
#[pyfunction]
pub fn decode_sections(
    py: Python<'_>,
    body: Py<PyBytes>,
    minijson: bool,
) -> PyResult<(Vec<SectionParts>, Vec<String>)> {
    let format = if minijson {
        Format::MiniJson
    } else {
        Format::Json
    };
    let body = Body::try_new(body, |body| {
        let body = body.as_bytes(py);
        py.detach(|| decode_body(body, format))
    })
    .map_err(decoding_error)?;
    let body = Arc::new(body);
    let decoded = body.borrow_dependent();
    let of_section = |section| DecodedOrders {
        body: Arc::clone(&body),
        section,
        objects: PyOnceLock::new(),
    };
    let sections = decoded.sections.iter().enumerate();
    let sections = sections
        .map(|(index, section)| (of_section(index), section.disposition.number()))
        .collect();
    Ok((sections, decoded.problems.clone()))
}

/// Encode a section as the server sends it over NGTT.
///
/// :param orders: its orders
/// :param joinable: whether it may be joined with its neighbours
/// :return: a list of one section, in MiniJSON
/// :raises EncodingError: a value of a write has no form in MiniJSON
/// :raises TypeError: the server knows no such order
#[pyfunction]
pub fn encode_section<'py>(
    orders: &Bound<'py, PyAny>,
    joinable: bool,
) -> PyResult<Bound<'py, PyBytes>> {
    let py = orders.py();
    let disposition = if joinable {
        Disposition::Joinable
    } else {
        Disposition::CannotJoin
    };
    let encoded = match Orders::of(orders)? {
        Orders::Decoded(decoded) if decoded.objects.get(py).is_none() => {
            encode_orders(decoded.orders(), disposition)
        }
        orders => {
            let orders = orders
                .iter(py)
                .map(|order| from_python(&order.object(py)?))
                .collect::<PyResult<Vec<_>>>()?;
            encode_orders(&orders, disposition)
        }
    };
    Ok(PyBytes::new(py, &encoded.map_err(encoding_error)?))
}

/// The longest wait among orders.
///
/// :param orders: orders of a section
/// :return: how long it is, in seconds; None if there is none
#[pyfunction]
pub fn longest_wait(orders: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    let py = orders.py();
    let waits = Orders::of(orders)?
        .iter(py)
        .filter_map(|order| order.wait())
        .max_by(f64::total_cmp);
    Ok(waits)
}

/// Whether orders change anything: whether there is a write or a sysctl among them.
///
/// :param orders: orders of a section
#[pyfunction]
pub fn change_anything(orders: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = orders.py();
    Ok(Orders::of(orders)?.iter(py).any(|order| order.changes()))
}

/// The orders of a section.
pub enum Orders<'a, 'py> {
    /// As objects.
    List(&'a Bound<'py, PyList>),
    /// As they came, unless somebody has looked at them.
    Decoded(&'a DecodedOrders),
}

impl<'a, 'py> Orders<'a, 'py> {
    /// Those that a Python object stands for: a list, or a `DecodedOrders`.
    pub fn of(object: &'a Bound<'py, PyAny>) -> PyResult<Self> {
        Ok(match object.cast::<DecodedOrders>() {
            Ok(decoded) => Orders::Decoded(decoded.get()),
            Err(_) => Orders::List(object.cast()?),
        })
    }

    /// One of them.
    pub fn get(&self, py: Python<'py>, index: usize) -> Option<OneOrder<'a, 'py>> {
        let in_list = |list: &Bound<'py, PyList>| list.get_item(index).ok().map(OneOrder::Object);
        match self {
            Orders::List(list) => in_list(list),
            Orders::Decoded(decoded) => match decoded.objects.get(py) {
                Some(list) => in_list(list.bind(py)),
                None => {
                    let order = decoded.orders().get(index)?;
                    Some(OneOrder::Decoded(order, OnceCell::new()))
                }
            },
        }
    }

    fn iter(&self, py: Python<'py>) -> impl Iterator<Item = OneOrder<'a, 'py>> {
        (0..).map_while(move |index| self.get(py, index))
    }
}

/// An order.
pub enum OneOrder<'a, 'py> {
    /// As an object.
    Object(Bound<'py, PyAny>),
    /// As it came, and the object that it has become.
    Decoded(&'a Order<'a>, OnceCell<Bound<'py, PyAny>>),
}

impl<'py> OneOrder<'_, 'py> {
    /// The order as an object, the same one each time that this is asked.
    pub fn object(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(match self {
            OneOrder::Object(object) => object.clone(),
            OneOrder::Decoded(order, made) => match made.get() {
                Some(object) => object.clone(),
                None => {
                    let object = to_python(py, order)?;
                    made.get_or_init(|| object).clone()
                }
            },
        })
    }

    /// What it does to a pathpoint; `None` if it is about something else.
    pub fn access(&self, py: Python<'py>) -> PyResult<Option<Access<'py>>> {
        Ok(match self {
            OneOrder::Object(object) => {
                if let Ok(read) = object.cast::<ReadOrder>() {
                    Some(read.get().access(py))
                } else if let Ok(write) = object.cast::<WriteOrder>() {
                    Some(write.get().access(py))
                } else {
                    None
                }
            }
            OneOrder::Decoded(Order::Read { path, advise }, _) => Some(Access::Read {
                path: PyString::new(py, path),
                advise: *advise,
            }),
            OneOrder::Decoded(
                Order::Write {
                    path,
                    value,
                    advise,
                    stale_after,
                },
                _,
            ) => Some(Access::Write {
                path: PyString::new(py, path),
                value: value::to_python(py, value)?,
                advise: *advise,
                stale_after: *stale_after,
            }),
            OneOrder::Decoded(..) => None,
        })
    }

    fn wait(&self) -> Option<f64> {
        match self {
            OneOrder::Object(object) => {
                let wait = object.cast::<WaitOrder>().ok()?;
                Some(wait.get().period())
            }
            OneOrder::Decoded(Order::Wait { seconds }, _) => Some(*seconds),
            OneOrder::Decoded(..) => None,
        }
    }

    fn changes(&self) -> bool {
        match self {
            OneOrder::Object(object) => {
                object.is_instance_of::<WriteOrder>() || object.is_instance_of::<SysctlOrder>()
            }
            OneOrder::Decoded(order, _) => {
                matches!(order, Order::Write { .. } | Order::Sysctl { .. })
            }
        }
    }
}
