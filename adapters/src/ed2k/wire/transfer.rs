//! What clients say to each other about files, after their greeting.
