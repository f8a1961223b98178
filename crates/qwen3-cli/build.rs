//! Makes a binary with the `tch` feature find libtorch at run time, without LD_LIBRARY_PATH.

fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let unix = std::env::var_os("CARGO_CFG_UNIX").is_some();
    let tch = unix && std::env::var_os("CARGO_FEATURE_TCH").is_some();
    if let (true, Ok(libtorch)) = (tch, std::env::var("LIBTORCH")) {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
    }
}
