//! Many numbers between Python and the core, through Python's buffers.

use std::ffi::{c_int, c_void};
use std::ops::Range;

use pyo3::buffer::{Element, PyBuffer};
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PySequence};
use pyo3::{ffi, intern};

/// How many elements are taken at a time: few enough to stay in a processor's cache.
const PIECE: usize = 16_384;

/// Elements of a sequence, taken piece by piece.
///
/// What is in a buffer may change while the GIL is released, so the core gets copies. A copy of all
/// would cost more time for its new memory than for its content.
pub struct Stream<'py, T> {
    source: Source<'py, T>,
    /// How many elements there are in all.
    length: usize,
    /// How many of them were taken.
    taken: usize,
    /// The last ones of these.
    piece: Vec<T>,
    /// How many of the piece are not needed any more, from the first on.
    done: usize,
}

/// Adds the elements in a range to a piece. The ranges follow one another.
type Source<'py, T> = Box<dyn FnMut(Range<usize>, &mut Vec<T>) -> PyResult<()> + 'py>;

impl<'py, T: 'py> From<Vec<T>> for Stream<'py, T> {
    fn from(elements: Vec<T>) -> Self {
        let length = elements.len();
        let mut rest = elements.into_iter();
        let source = move |range: Range<usize>, piece: &mut Vec<T>| {
            piece.extend(rest.by_ref().take(range.len()));
            Ok(())
        };
        Stream::new(Box::new(source), length)
    }
}

impl<'py, T> Stream<'py, T> {
    fn new(source: Source<'py, T>, length: usize) -> Self {
        Stream {
            source,
            length,
            taken: 0,
            piece: Vec::new(),
            done: 0,
        }
    }

    /// How many elements there are in all.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether the piece has the last element.
    pub fn is_complete(&self) -> bool {
        self.taken == self.length
    }

    /// What was taken and is still needed.
    pub fn piece(&self) -> &[T] {
        self.piece.get(self.done..).unwrap_or_default()
    }

    /// Tells that so many of the piece are not needed any more, and takes more unless enough of it
    /// still are.
    pub fn advance(&mut self, done: usize) -> PyResult<()> {
        self.done += done;
        let needed = self.piece().len();
        if self.is_complete() || needed > PIECE / 2 {
            return Ok(());
        }
        self.piece.drain(..self.done);
        self.done = 0;
        let end = self.length.min(self.taken + PIECE - needed);
        (self.source)(self.taken..end, &mut self.piece)?;
        self.taken = end;
        Ok(())
    }
}

impl<'py, T: Element + 'py> Stream<'py, T> {
    /// The elements of a buffer, if the object has one of this type.
    pub fn of_buffer(object: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        let Ok(buffer) = PyBuffer::<T>::get(object) else {
            return Ok(None);
        };
        let py = object.py();
        if buffer.dimensions() != 1 {
            return buffer.to_vec(py).map(|all| Some(all.into()));
        }
        // As long as there is a view, a buffer keeps its size.
        let view: Bound<'py, PySequence> = PyMemoryView::from(object)?.into_any().cast_into()?;
        let source = move |range: Range<usize>, piece: &mut Vec<T>| {
            let part = view.get_slice(range.start, range.end)?;
            piece.extend(PyBuffer::<T>::get(&part)?.to_vec(py)?);
            Ok(())
        };
        Ok(Some(Stream::new(Box::new(source), buffer.item_count())))
    }
}

/// Numbers that a memoryview shows where they are: copying them would take as long as computing.
#[pyclass(frozen, module = "smok_fast._core")]
pub struct Numbers(Content);

enum Content {
    Ints(Vec<i64>),
    Floats(Vec<f64>),
}

impl From<Vec<i64>> for Numbers {
    fn from(ints: Vec<i64>) -> Self {
        Numbers(Content::Ints(ints))
    }
}

impl From<Vec<f64>> for Numbers {
    fn from(floats: Vec<f64>) -> Self {
        Numbers(Content::Floats(floats))
    }
}

impl Numbers {
    /// The numbers as a memoryview of format `q` or `d`.
    pub fn view(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let format = match self.0 {
            Content::Ints(_) => "q",
            Content::Floats(_) => "d",
        };
        let bytes = PyMemoryView::from(Bound::new(py, self)?.as_any())?;
        bytes.call_method1(intern!(py, "cast"), (format,))
    }
}

#[pymethods]
impl Numbers {
    #[allow(unsafe_code)] // the only way to give memory to Python
    unsafe fn __getbuffer__(
        slf: &Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let (start, bytes) = match &slf.get().0 {
            Content::Ints(ints) => (ints.as_ptr().cast::<c_void>(), size_of_val(&**ints)),
            Content::Floats(floats) => (floats.as_ptr().cast::<c_void>(), size_of_val(&**floats)),
        };
        // SAFETY: Python gives a view to fill. The memory neither moves nor changes as long as the
        // object lives, which the view keeps alive, and the view is filled as a read-only one.
        let status = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                start.cast_mut(),
                bytes.cast_signed(),
                1,
                flags,
            )
        };
        if status == 0 {
            Ok(())
        } else {
            Err(PyErr::fetch(slf.py()))
        }
    }
}
