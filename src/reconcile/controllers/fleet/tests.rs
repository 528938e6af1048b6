//! What is decided for a Fleet, case by case, and what holds in every case.
