"""Galleries: vectors that are kept, and asked for those most like another."""
