//! Frames of NGTT.

use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use smok_core::ngtt::{Frame, FrameParser, MAX_DATA, encode};

type PyFrame<'py> = (u16, u16, Bound<'py, PyBytes>);

/// Cuts what one side of an NGTT connection receives into frames.
///
/// :param max_data: the longest data that a frame may carry, in bytes
#[pyclass(frozen, module = "smok_fast._core")]
pub struct NGTTDecoder {
    parser: Mutex<FrameParser>,
}

#[pymethods]
impl NGTTDecoder {
    #[new]
    #[pyo3(signature = (max_data=MAX_DATA))]
    fn new(max_data: usize) -> Self {
        Self {
            parser: Mutex::new(FrameParser::new(max_data)),
        }
    }

    /// Take the next bytes of the stream.
    ///
    /// :return: transaction ID, type and data of each frame that they complete. Those in front of a fault are among
    ///     them; after it, which :attr:`error` shows, there are none
    fn feed<'py>(&self, py: Python<'py>, data: &[u8]) -> Vec<PyFrame<'py>> {
        let mut frames = Vec::new();
        // A fault is not lost: it stays in the parser, where `error` shows it.
        let _ = self.parser.lock().feed(data, &mut frames);
        frames
            .iter()
            .map(|Frame { tid, kind, data }| (*tid, *kind, PyBytes::new(py, data)))
            .collect()
    }

    /// Whether the next byte can only begin a new frame: nothing is left over, nothing was wrong.
    #[getter]
    fn is_between_frames(&self) -> bool {
        self.parser.lock().is_between_frames()
    }

    /// What is wrong with the stream, for good; None while nothing is.
    #[getter]
    fn error(&self) -> Option<String> {
        self.parser.lock().error().map(|error| error.to_string())
    }
}

/// The bytes of a frame.
///
/// :param tid: transaction ID
/// :param packet_type: type of the frame
/// :param data: what it carries
/// :raises OverflowError: the transaction ID or the type does not fit 16 bits
/// :raises ValueError: the data is 4 GiB or longer
#[pyfunction]
pub fn encode_ngtt_frame<'py>(
    py: Python<'py>,
    tid: u16,
    packet_type: u16,
    data: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let frame =
        encode(tid, packet_type, data).map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(PyBytes::new(py, &frame))
}
