"""Chats as rows hold them: layouts, turns, tool calls, reasoning and the order of turns."""
