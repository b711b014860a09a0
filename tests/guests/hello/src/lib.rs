use lockkeeper_sdk::prelude::*;

#[policy]
fn hello(_: &View) -> Admitted {
    lock("hello", "everybody may go")
}
