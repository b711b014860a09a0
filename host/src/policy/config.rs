//! Wasmtime's configuration.

use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, OperatorCost, PoolingAllocationConfig, RegallocAlgorithm, WasmFeatures,
};

use super::evaluate::MAX_TABLE_ELEMENTS;

/// Instances that may live at once. Decisions are taken one after the other; a few more are for tests and benchmarks.
const POOL_COMPONENTS: u32 = 16;

/// Core instances and memories among them: a componentised JavaScript or Python guest brings several.
const POOL_CORE: u32 = POOL_COMPONENTS * 8;

/// Memory that a pooled instance keeps between decisions, reset by copying instead of by page faults. With `pagemap_scan`
/// only pages that were written count, and anything from 64 KiB on is as quick as anything else; without the scan a
/// decision takes 60 % longer whatever the value.
const KEEP_RESIDENT: usize = 128 * 1024;

/// What is the same with and without the pool. Everything here that changes what a decision computes belongs to the
/// determinism profile: changing it changes [`super::cache`]'s key by way of wasmtime's compatibility hash.
pub(super) fn on_demand() -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .operator_cost(fuel_table())
        .epoch_interruption(true)
        .cranelift_nan_canonicalization(true)
        .cranelift_regalloc_algorithm(RegallocAlgorithm::Backtracking)
        .max_wasm_stack(512 * 1024)
        .wasm_features(WasmFeatures::RELAXED_SIMD, false)
        .wasm_features(WasmFeatures::MEMORY64, false)
        .wasm_features(WasmFeatures::MULTI_MEMORY, false)
        .wasm_features(WasmFeatures::TAIL_CALL, false);
    config
}

/// What operators cost in fuel: one each, and one for each byte or element of a bulk operation, wasmtime's defaults; but
/// growing is a call into the host, which is charged for, or it would take the clock to stop a loop of it.
fn fuel_table() -> OperatorCost {
    let mut costs = OperatorCost::new();
    costs.MemoryGrow = u8::MAX;
    costs.TableGrow = u8::MAX;
    costs.variable.memory_grow_per_page = u8::MAX;
    costs
}

/// As [`on_demand`], with a pool made beforehand.
pub(super) fn pooled() -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(POOL_COMPONENTS)
        .total_stacks(POOL_COMPONENTS)
        .total_core_instances(POOL_CORE)
        .total_memories(POOL_CORE)
        .total_tables(POOL_CORE)
        .table_elements(MAX_TABLE_ELEMENTS)
        .max_unused_warm_slots(POOL_CORE)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT)
        .pagemap_scan(Enabled::Auto);
    let mut config = on_demand();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}
