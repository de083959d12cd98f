"""One short program for each thing that the engine can do: `python -m samples.features.NAME`. Each checks itself.

first things       restart, activity_with_state, complex_parameters, names_and_modules, workflow_info, queues,
                   split_worker
doing several      concurrency, fan_out, pipeline, anyio_inside, timers_and_races, children
what goes wrong    retries, errors, timeouts_and_heartbeats, cancellation, saga, at_most_once
talking to it      signals, signals_between_instances, signal_with_start, queries, updates, complete_later
living long        continue_as_new, versioning_patched, versioning_side_by_side, stalled, side_effects
starting it        delayed_start, one_per_id
looking after it   pause_and_terminate, tags_and_listing, upkeep, publish, hooks, context_propagation, codec,
                   process_executor
"""
