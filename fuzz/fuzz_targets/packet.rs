#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    wardgate_fuzz_targets::packet(input);
});
