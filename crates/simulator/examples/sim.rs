//! `cargo run -p simulator --example sim -- ARGS`.
fn main() {
    std::process::exit(simulator::cli::main(std::env::args().skip(1).collect()));
}
