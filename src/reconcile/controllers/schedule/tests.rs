//! What is decided for a Schedule, case by case, and what holds in every case.
