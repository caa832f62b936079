//! Another Rust static library, as a second vendor would ship it: it allocates, panics and starts a thread.

/// 42, by way of everything that needs the standard library's own symbols.
#[unsafe(no_mangle)]
pub extern "C" fn other_answer() -> i32 {
    let caught = std::panic::catch_unwind(|| {
        std::panic::resume_unwind(Box::new(String::from("forty")));
    });
    let forty = caught.unwrap_err().downcast::<String>().map_or(0, |text| text.len() * 8);
    let two = std::thread::spawn(|| format!("{:?}", vec![1u8; 2]).len() / 3).join().unwrap_or(0);
    (forty + two) as i32
}
